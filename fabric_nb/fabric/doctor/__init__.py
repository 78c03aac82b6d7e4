"""Doctor: checks of everything that a member of the fabric depends on, with advice.

`target` is the subject of the checks, `findings` are their results, and `checks` runs them.
"""
