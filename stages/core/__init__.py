"""What every stage needs: typed parameters, table schemas, paths, files, seeds, progress."""
