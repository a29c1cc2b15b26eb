"""The store, which holds every SQL statement."""

from __future__ import annotations

from .adding.inserts import Inserts, has_met_taken, in_order
from .adding.schedule_definition import ScheduleDefinition
from .adding.schedules import Waiting
from .counters.charts import LATEST as LATEST_FAILURES
from .counters.charts import MOST_DEAD, RANGES, AttemptCounts
from .counters.counters import SLOT
from .counters.ended_attempts import MOST_ENDED, EndedAttempt, LatestAttempts
from .counters.metrics import QueueMetrics
from .counters.queue_counts import CAP, QueueCounts
from .counters.statistics import QueueActivity
from .database.database import Database
from .database.dialects import is_in_memory
from .database.dialects.connections import keep, replace_inherited
from .database.notify import Notifications
from .database.schema import SchemaChange, SchemaVersion, statements
from .database.tables import Tables
from .database.transaction import LockedError, Wait, apart, refusal
from .encryption import RotationResult
from .leases.attempts import NOT_KEPT, AttemptResult, Recorded, StoredReply, without_values
from .leases.claims import Claims
from .leases.freed_places import has_freed_places
from .leases.pulls import Tag
from .probe_row import refuse_elsewhere
from .queues.added_queues import AddedQueues, configured_error
from .queues.dispatchers import DispatcherEntry
from .retention import Tombstones
from .store import Store
from .tasks.filters import SEARCHED, Filter, Visible
from .tasks.listings import Cursor, Listing, ListKind
from .tasks.search import OF_STATE, SearchResult
from .tasks.selection import BATCH as CHANGED_AT_ONCE
from .tasks.selection import Action
from .testing import DatabaseForTests
from .uncommitted.changes import JoinedChange, Kept
from .uncommitted.outside import has_written_here, note_transactions
from .uncommitted.refusals import NO_COMMIT, UNDONE, goes_on, refuse_others, refuse_within
from .uncommitted.tracking import (
    inherited,
    keep_tracking,
    track,
    tracked_here,
    untrack,
)
from .uncommitted.transaction import TrackedTransaction

__all__ = [
    "CAP",
    "CHANGED_AT_ONCE",
    "LATEST_FAILURES",
    "MOST_DEAD",
    "MOST_ENDED",
    "NOT_KEPT",
    "NO_COMMIT",
    "OF_STATE",
    "RANGES",
    "SEARCHED",
    "SLOT",
    "UNDONE",
    "Action",
    "AddedQueues",
    "AttemptCounts",
    "AttemptResult",
    "Claims",
    "Cursor",
    "Database",
    "DatabaseForTests",
    "DispatcherEntry",
    "EndedAttempt",
    "Filter",
    "Inserts",
    "JoinedChange",
    "Kept",
    "LatestAttempts",
    "ListKind",
    "Listing",
    "LockedError",
    "Notifications",
    "QueueActivity",
    "QueueCounts",
    "QueueMetrics",
    "Recorded",
    "RotationResult",
    "ScheduleDefinition",
    "SchemaChange",
    "SchemaVersion",
    "SearchResult",
    "Store",
    "StoredReply",
    "Tables",
    "Tag",
    "Tombstones",
    "TrackedTransaction",
    "Visible",
    "Wait",
    "Waiting",
    "apart",
    "configured_error",
    "goes_on",
    "has_freed_places",
    "has_met_taken",
    "has_written_here",
    "in_order",
    "inherited",
    "is_in_memory",
    "keep",
    "keep_tracking",
    "note_transactions",
    "refusal",
    "refuse_elsewhere",
    "refuse_others",
    "refuse_within",
    "replace_inherited",
    "statements",
    "track",
    "tracked_here",
    "untrack",
    "without_values",
]
