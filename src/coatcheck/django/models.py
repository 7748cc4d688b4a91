"""No models: the store keeps its own tables. Django sends `post_migrate` only to applications that have this file."""
