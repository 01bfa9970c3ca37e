"""`karate`: the community of every node of a graph, learnt on Zachary's karate club from one label a community."""
