"""The state engine of bcs-tui: runs headless and knows nothing of any screen.

Names are imported when they are first used, so that a command pays only for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.account import LOG_LENGTH as LOG_LENGTH
    from engine.auditing import Audit as Audit
    from engine.auditing import Claim as Claim
    from engine.auditing import audit_lasting as audit_lasting
    from engine.clock import Clock as Clock
    from engine.clock import ManualClock as ManualClock
    from engine.clock import SystemClock as SystemClock
    from engine.clock import rfc3339 as rfc3339
    from engine.documents import BatchCompletionSummary as BatchCompletionSummary
    from engine.documents import EssayProcessingState as EssayProcessingState
    from engine.documents import ProcessingStepStatus as ProcessingStepStatus
    from engine.documents import StepCompletionSummary as StepCompletionSummary
    from engine.engine import Engine as Engine
    from engine.errors import BadEvent as BadEvent
    from engine.errors import BCSError as BCSError
    from engine.errors import CorruptDocument as CorruptDocument
    from engine.errors import FeedError as FeedError
    from engine.errors import FeedUnavailable as FeedUnavailable
    from engine.errors import FeedUnreachable as FeedUnreachable
    from engine.errors import NotFound as NotFound
    from engine.errors import RepositoryConflict as RepositoryConflict
    from engine.errors import RepositoryError as RepositoryError
    from engine.errors import RepositoryUnavailable as RepositoryUnavailable
    from engine.errors import SettingsError as SettingsError
    from engine.events import Event as Event
    from engine.events import Ignored as Ignored
    from engine.events import Rejected as Rejected
    from engine.events import parse as parse
    from engine.failures import tells_failure as tells_failure
    from engine.feeds.jsonl import JsonlFeed as JsonlFeed
    from engine.feeds.port import Envelope as Envelope
    from engine.feeds.port import Feed as Feed
    from engine.feeds.port import Seekable as Seekable
    from engine.feeds.port import Sink as Sink
    from engine.feeds.port import WholeFile as WholeFile
    from engine.feeds.replay import ReplayClock as ReplayClock
    from engine.feeds.replay import ReplayFeed as ReplayFeed
    from engine.feeds.simulator import Chaos as Chaos
    from engine.feeds.simulator import SimulatorFeed as SimulatorFeed
    from engine.feeds.stdin import StdinFeed as StdinFeed
    from engine.models import OUTCOME_NAMES as OUTCOME_NAMES
    from engine.models import BatchFact as BatchFact
    from engine.models import BatchRecord as BatchRecord
    from engine.models import EssaysFact as EssaysFact
    from engine.models import EssayState as EssayState
    from engine.models import Outcome as Outcome
    from engine.models import PhaseFact as PhaseFact
    from engine.models import RegistrationFact as RegistrationFact
    from engine.models import StepFact as StepFact
    from engine.models import told as told
    from engine.opening import migrate as migrate
    from engine.opening import open_engine as open_engine
    from engine.opening import open_live_feed as open_live_feed
    from engine.opening import open_repository as open_repository
    from engine.opening import open_sink as open_sink
    from engine.pipelines import Planned as Planned
    from engine.pipelines import dependencies as dependencies
    from engine.pipelines import phases_of as phases_of
    from engine.pipelines import remaining as remaining
    from engine.places import config_path as config_path
    from engine.repository import BatchStateRepository as BatchStateRepository
    from engine.repository import DeadLetter as DeadLetter
    from engine.servers import PrivatePostgres as PrivatePostgres
    from engine.servers import PrivateRedis as PrivateRedis
    from engine.settings import Backend as Backend
    from engine.settings import Settings as Settings
    from engine.settings import Shown as Shown
    from engine.settings import masked as masked
    from engine.summaries import TERMINAL_STATUSES as TERMINAL_STATUSES
    from engine.summaries import BatchSummary as BatchSummary
    from engine.summaries import StepCounts as StepCounts
    from engine.summaries import summarize as summarize
    from engine.transport import Way as Way
    from engine.view import BatchRow as BatchRow
    from engine.view import Eta as Eta
    from engine.view import EventLog as EventLog
    from engine.view import Grid as Grid
    from engine.view import Health as Health
    from engine.view import LogEntry as LogEntry
    from engine.view import Mode as Mode
    from engine.view import ReplayState as ReplayState
    from engine.view import View as View

_HOMES = {
    "engine.account": "LOG_LENGTH",
    "engine.auditing": "Audit Claim audit_lasting",
    "engine.clock": "Clock ManualClock SystemClock rfc3339",
    "engine.documents": "BatchCompletionSummary EssayProcessingState ProcessingStepStatus "
    "StepCompletionSummary",
    "engine.engine": "Engine",
    "engine.errors": "BCSError BadEvent CorruptDocument FeedError FeedUnavailable "
    "FeedUnreachable NotFound RepositoryConflict RepositoryError RepositoryUnavailable "
    "SettingsError",
    "engine.events": "Event Ignored Rejected parse",
    "engine.failures": "tells_failure",
    "engine.feeds.jsonl": "JsonlFeed",
    "engine.feeds.port": "Envelope Feed Seekable Sink WholeFile",
    "engine.feeds.replay": "ReplayClock ReplayFeed",
    "engine.feeds.simulator": "Chaos SimulatorFeed",
    "engine.feeds.stdin": "StdinFeed",
    "engine.models": "BatchFact BatchRecord EssayState EssaysFact OUTCOME_NAMES Outcome PhaseFact "
    "RegistrationFact StepFact told",
    "engine.opening": "migrate open_engine open_live_feed open_repository open_sink",
    "engine.pipelines": "Planned dependencies phases_of remaining",
    "engine.places": "config_path",
    "engine.repository": "BatchStateRepository DeadLetter",
    "engine.servers": "PrivatePostgres PrivateRedis",
    "engine.settings": "Backend Settings Shown masked",
    "engine.summaries": "BatchSummary StepCounts TERMINAL_STATUSES summarize",
    "engine.transport": "Way",
    "engine.view": "BatchRow Eta EventLog Grid Health LogEntry Mode ReplayState View",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
