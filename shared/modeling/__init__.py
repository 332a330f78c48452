"""The model (TensorFlow; training only): item tower, encoder, heads, losses, export.

config.py      the sizes of a model, and what follows from them
random.py      stateless seeds and dropout
item_tower.py  id and content → input, support and output rows
encoder.py     rows of a history → state
heads.py       state and fast weights → queries
model.py       all of it, for training and for the artifact
initial.py     starting values from the data: item-item SVD, popularity
losses.py      softmax losses over the catalogue or a sample of it
export.py      the SavedModel and the item rows
"""
