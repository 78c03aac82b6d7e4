"""Everything that knows IPython."""
