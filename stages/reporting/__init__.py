"""From cells to a report: results side by side, what differs between them, tables, charts and one page of HTML.

Reads no file and knows no path; stages/tabulate.py does. Every figure is `rerun`, by a cell that is named, or `copied`.
"""
