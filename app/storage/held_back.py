"""Lists what the operator has decided not to do for a server at present, and why: the other half of what it writes."""

from app.storage.pause import paused_problem
from app.storage.problem import Problem, Stage
from app.storage.spec import DittoServer
from app.storage.status import Observation
from app.storage.volume_states import Phase


def held_back(server: DittoServer, observation: Observation) -> list[Problem]:
    """Returns the problems that keep something from being written, and what waits for a person or a restart."""
    problems = list(observation.problems)
    if observation.live.is_paused:
        problems.append(paused_problem(server.metadata.name, server.metadata.namespace))
    if observation.pending_rollout:
        problems.append(Problem("RolloutPending", observation.pending_rollout))

    for claim, why in observation.live.refused.items():
        problems.append(Problem(Phase.RESIZE_REFUSED, f"volume claim {claim}: {why}", Stage.VOLUMES, stalls=True))

    # Of several with one message, the first is the one that counts most.
    return list({(problem.reason, problem.message): problem for problem in reversed(problems)}.values())[::-1]
