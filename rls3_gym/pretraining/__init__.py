"""Making the packaged tiny CLIP from nothing: scenes, captions, training, and the model card."""
