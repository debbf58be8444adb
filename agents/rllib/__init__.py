"""RLlib's algorithms as samplers. Importing this without RLlib says what to install."""

from rls3_registry.errors import UserError

try:
    import ray.rllib  # noqa: F401
except ImportError as missing:
    raise UserError(
        f"the agents of RLlib need RLlib ({missing}), in an environment of their own, for it pins gymnasium: "
        'pip install "rls3_gym[rllib]" there'
    ) from missing
