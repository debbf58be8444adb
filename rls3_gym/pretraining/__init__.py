"""Making the packaged VLMs from nothing: scenes, captions, training, and their model cards."""
