"""All attacks in the order in which they run; those that may fill the server's memory come last."""

from tests.attack.attacks import arrays, connections, headers, models, mutations, pictures, streams, text

ATTACKS = [
    *headers.ATTACKS,
    *models.ATTACKS,
    *text.ATTACKS,
    *arrays.ATTACKS,
    *pictures.ATTACKS,
    *streams.ATTACKS,
    *mutations.ATTACKS,
    *connections.ATTACKS,
]
