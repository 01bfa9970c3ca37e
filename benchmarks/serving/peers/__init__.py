"""The programs of the peers, written around the same functions as each server's guide has it.

They run in their own environments, which have nothing of opserve but its operator library.
"""
