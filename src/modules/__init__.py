"""Networks and other parts an algorithm is assembled from."""
