"""Two processes: the generator with its threads, the client, the messages between them, and how both end."""
