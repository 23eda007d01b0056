"""Items, histories and candidate pools as text: what a language model reads and writes (TextRec, Sec. 3.2)."""
