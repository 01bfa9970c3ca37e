"""The peers' programs: each is what a person writes who follows that server's guide, around the same functions.

They run in an environment of their own, where nothing of opserve but its operator library is at hand.
"""
