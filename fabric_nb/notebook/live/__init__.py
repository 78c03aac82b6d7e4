"""What is shown live under a cell, whatever it is: how often, where, and what is left of it."""
