"""Picture of the calls between services: layout, drawing as SVG, encoding for the browser."""
