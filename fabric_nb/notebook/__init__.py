"""IPython integration: extension, magics, views, charts and the panel."""
