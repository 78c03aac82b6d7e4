"""Timeline of a member: what it knows of calls, instances, streams and logs, on one time axis.

`sources` makes events of the records that its parts keep, `picture` sorts them into lanes, and
`drawing` renders these as SVG and text. Imports go in this order.
"""
