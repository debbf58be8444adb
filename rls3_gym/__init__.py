"""RLS3: RL agents choose the training data that makes a vision-language model better.

Importing this package registers the environment ids; it imports neither torch nor any RL library.
"""

from rls3_gym.registration import register_envs

register_envs()
