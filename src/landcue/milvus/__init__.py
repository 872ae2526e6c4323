"""Archives in a Milvus collection: push, compare and search where one machine is too small."""
