"""Pages of the site that are made of the code, so that they can't say anything else; run by mkdocs-gen-files."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium
import mkdocs_gen_files

import rls3_gym  # noqa: F401  registers the ids
import rls3_registry
from rls3_agents.base import AGENTS, DOORS, OBSERVATIONS, SamplerAgent, doors_of, make_agent, observations_of
from rls3_gym.envs.views import VIEWS
from rls3_gym.loop.rewards.base import REWARDS
from rls3_gym.registration import ENV_IDS
from rls3_registry.plugins import plugin_class

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:)([^)#]+)(#[^)]*)?\)")
REFERENCE = {
    "environment": ["rls3_gym.envs.scene_env.RLS3SceneEnv", "rls3_gym.envs.settings", "rls3_gym.envs.views",
                    "rls3_gym.envs.observations"],
    "loop": ["rls3_gym.loop.learning_loop", "rls3_gym.loop.scheduler", "rls3_gym.loop.rewards.base",
             "rls3_gym.loop.cells"],
    "scene": ["rls3_gym.scene.arrangement", "rls3_gym.scene.relations", "rls3_gym.scene.captions",
              "rls3_gym.scene.natural", "rls3_gym.stage", "rls3_gym.sample"],
    "vlm": ["rls3_gym.vlm.base", "rls3_gym.vlm.finetune_settings", "rls3_gym.vlm.finetuner", "rls3_gym.vlm.loading"],
    "backends": ["rls3_gym.backends.base", "rls3_gym.backends.unity.settings", "rls3_gym.backends.unity.messages"],
    "agents": ["rls3_agents.base", "rls3_agents.samplers.scripted"],
    "contracts": ["rls3_agents.contract", "rls3_gym.backends.contract", "rls3_gym.backends.unity.contract",
                  "rls3_gym.evaluation.vlm_contract"],
    "experiments": ["rls3_gym.experiment.config", "rls3_gym.study.study_config", "rls3_gym.runs.rows"],
    "registry": ["rls3_registry", "rls3_registry.plugins", "rls3_registry.validation", "rls3_registry.trust"],
}  # fmt: skip
"""Pages of the reference and what they show."""


def write(name: str, *parts: str) -> None:
    """A page of the site."""
    with mkdocs_gen_files.open(name, "w") as page:
        page.write("\n\n".join(part.strip() for part in parts) + "\n")


def at_home(document: str) -> str:
    """A document of the repository as it stands on the site: links between documents are kept, pictures from elsewhere
    are taken along, and other files are named without a link."""
    folder = (ROOT / document).parent

    def relink(found: re.Match[str]) -> str:
        picture, said, anchor = found[1], found[2], found[4] or ""
        target = (folder / found[3]).resolve()
        if target == ROOT / "CONTRIBUTING.md":
            return f"[{said}](contributing.md{anchor})"
        if target == ROOT / "README.md":
            return f"[{said}](index.md{anchor})"
        if target.is_relative_to(ROOT / "docs"):
            return f"{picture}[{said}]({target.relative_to(ROOT / 'docs').as_posix()}{anchor})"
        if picture:
            copy = "images/" + target.relative_to(ROOT).as_posix().replace("/", "-")
            with mkdocs_gen_files.open(copy, "wb") as file:
                file.write(target.read_bytes())
            return f"![{said}]({copy})"
        return said

    return LINK.sub(relink, (ROOT / document).read_text(encoding="utf-8"))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def environments() -> None:
    """One page for each id, with its spaces as they are."""
    rows = []
    for name, fixed in ENV_IDS.items():
        env: Any = gymnasium.make(name)
        said = ", ".join(f"`{key}={value!r}`" for key, value in fixed.items()) or "the defaults"
        rows.append(
            (f"[`{name}`]({name}.md)", said, f"`{_short(env.action_space)}`", f"`{_short(env.observation_space)}`")
        )
        write(
            f"environments/{name}.md",
            f"# {name}",
            f'```python\nimport gymnasium\n\nenv = gymnasium.make("rls3_gym:{name}")\n```',
            table(
                ("", ""),
                [
                    ("fixes", said),
                    ("action space", f"`{env.action_space}`"),
                    ("observation space", f"`{_short(env.observation_space)}`"),
                ],
            ),
            inspect.cleandoc(env.unwrapped.__doc__),
        )
        env.close()
    write(
        "environments/index.md",
        "# Environments",
        "Every id is the same environment with some arguments fixed; any of them can be given all the same.",
        table(("id", "fixes", "actions", "observations"), rows),
    )


def _short(space: gymnasium.Space[Any]) -> str:
    """A space in one line."""
    if isinstance(space, gymnasium.spaces.Box):
        return f"Box({space.low.min():g}, {space.high.max():g}, {space.shape}, {space.dtype})"
    return str(space)


def _made(name: str) -> SamplerAgent | None:
    """An agent; None for one that needs an environment of its own."""
    return None if AGENTS.find(name)[1].plugin == "rllib" else make_agent(name, seed=0)


def agents() -> None:
    """One page for each agent of the registry."""
    rows = []
    for name in rls3_registry.names("agents"):
        agent, spec = _made(name), AGENTS.find(name)[1]
        views = "" if agent is None else ", ".join(f"`{view}`" for view in agent.action_views)
        rows.append((f"[`{name}`]({name}.md)", spec.description, views))
        apart = f"It needs an environment of its own: [Ray]({'../' * (name.count('/') + 1)}ray.md)."
        yaml = rls3_registry.path_of("agents", name).read_text(encoding="utf-8")
        module = None if agent is None else inspect.getmodule(type(agent))
        write(
            f"agents/{name}.md",
            f"# {name}",
            spec.description,
            f"```bash\nrls3 run quickstart --set agent={name}\n```",
            f"**Action views**, best first: {views}." if views else apart,
            "## Settings",
            "Its YAML file; another value is `--set agent.settings.KEY=VALUE`.",
            f"```yaml\n{yaml}```",
            "## How it works",
            inspect.cleandoc(module.__doc__ if module and module.__doc__ else ""),
            inspect.cleandoc("" if agent is None else type(agent).__doc__ or ""),
        )
    write(
        "agents/index.md",
        "# Agents",
        "Whatever chooses the samples: RL agents of a library, and samplers without RL to compare with.",
        table(("agent", "what it is", "action views, best first"), rows),
        "[What goes with what](support.md) has observations and doors as well.",
        "Three samplers choose what trains, not what is made. They are settings that go with any agent:",
        table(("sampler", "setting", "of an episode's samples those train that ..."), SAMPLERS),
    )


SAMPLERS = (
    ("`mined`", "`environment.selection: mined`", "the VLM fails most"),
    ("`learnable`", "`environment.selection: learnable`", "a reference VLM gets right, unlike the VLM"),
    ("`jest`", "`environment.selection: jest`", "are so as a set (arXiv 2406.17711)"),
)
"""Samplers of the literature that choose what trains, not what is made: settings of the environment."""


def support() -> None:
    """What goes with what, as the code has it; `tests/test_support.py` tries every cell."""
    yes, no = "✓", ""
    rows = []
    for name in rls3_registry.names("agents"):
        agent = _made(name)
        if agent is None:
            continue
        has = [agent.action_views, observations_of(agent), doors_of(agent)]
        marks = [yes if word in some else no for words, some in zip((VIEWS, OBSERVATIONS, DOORS), has, strict=True)
                 for word in words]  # fmt: skip
        rows.append((f"[`{name}`]({name}.md)", *marks))
    write(
        "agents/support.md",
        "# What goes with what",
        "Action views, observations and doors that each agent takes. What has a mark in an agent's row goes together: "
        "each of its views with each of its observations through each of its doors. What has none is refused with one "
        "line before the run begins. The table is made from the code, and a test trains every agent in every cell. "
        "The agents of RLlib are not in it: they take flat observations, PPO several lanes, and are tested in an "
        "environment of their own ([Ray](../ray.md)).",
        table(("agent", *(f"`{view}`" for view in VIEWS), *(f"`{seen}`" for seen in OBSERVATIONS), *DOORS), rows),
        "Views are `environment.action_view`, observations `environment.observation`. Several lanes is "
        "`environment: {num_envs: N}`, and several agents `environment: {door: parallel}`: "
        "[many stages, many agents](../vectorizing.md).",
    )


def rewards() -> None:
    """One page for each reward of the registry, from its class and its file."""
    rows = []
    for name in rls3_registry.names("rewards"):
        spec = REWARDS.find(name)[1]
        reward = plugin_class(REWARDS.group, REWARDS.what, spec.plugin, REWARDS.needs)
        yaml = rls3_registry.path_of("rewards", name).read_text(encoding="utf-8")
        module = inspect.getmodule(reward)
        paid = "asked at every step" if reward.immediate else "asked once an episode"  # type: ignore[attr-defined]
        rows.append((f"[`{name}`]({name}.md)", spec.description, paid))
        write(
            f"rewards/{name}.md",
            f"# {name}",
            spec.description,
            f"```bash\nrls3 run quickstart --set environment.extrinsic={name}\n```",
            "## How it works",
            inspect.cleandoc(reward.__doc__ or ""),
            f"The VLM is {paid}. " + inspect.cleandoc(module.__doc__ if module and module.__doc__ else ""),
            "## Settings",
            f"```yaml\n{yaml}```",
            f"::: {reward.settings_model.__module__}.{reward.settings_model.__name__}",  # type: ignore[attr-defined]
        )
    write(
        "rewards/index.md",
        "# Rewards",
        "An agent is paid for feasible edits (intrinsic) and by one of these, chosen by `environment.extrinsic`. "
        "[How the rewards work](../how_rewards_work.md) shows them side by side.",
        table(("reward", "what it pays for", "the VLM is"), rows),
    )


def reference() -> None:
    """The API, from the docstrings."""
    rows = []
    for name, modules in REFERENCE.items():
        write(f"reference/{name}.md", f"# {name}", *(f"::: {module}" for module in modules))
        rows.append((f"[{name}]({name}.md)", ", ".join(f"`{module}`" for module in modules)))
    write("reference/index.md", "# Reference", table(("page", "modules"), rows))


write("index.md", at_home("README.md"))
write("contributing.md", at_home("CONTRIBUTING.md"))
for document in sorted((ROOT / "docs").glob("*.md")):
    write(document.name, at_home(f"docs/{document.name}"))
environments()
agents()
support()
rewards()
reference()
