"""What is seen under a cell."""
