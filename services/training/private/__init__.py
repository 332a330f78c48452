"""Training with differential privacy: a person's events change little of what a version may become.

budget.py       the mechanisms, and the noise that a promise asks for
secret.py       random numbers that nobody can foretell, the same again where a run goes on
people.py       whom the promise is made to, and what of the data it leaves out
releases.py     popularity and who chose what together, as sums with noise
rows.py         item rows from these and from public text
gradients.py    a person's gradient, clipped; the sum of a step; Adam on what comes with noise
episodes.py     what a person contributes to a step
body.py         the stage: encoder, heads and the adapter's numbers by noisy gradients
probabilities.py  scores → probabilities, by made-up people
job.py          all of it, in order

Held-out people judge a version and stay outside of the promise; nothing in an artifact comes from them.
"""
