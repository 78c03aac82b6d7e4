"""Live timeline: lanes that the browser draws, above a table of their events.

`widget` sends the lanes, and `live` keeps lanes and table up to date. Imports go in this order.
"""
