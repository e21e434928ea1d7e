"""What is compared: one file an approach. The config's name is the file's name; nothing here lists them."""
