"""Typed messages <-> what travels. Pure; every rule is one of the wire contract.

Reading never trusts: a message that does not have the shape of its kind raises
`MalformedMessage`, whatever it holds, and nothing in it is looked up, imported or evaluated.
"""
