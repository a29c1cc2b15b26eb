"""Names before a parenthesis that call nothing that writes, as each database proves it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """Names that, before a parenthesis, call no function of the app's."""

    words: frozenset[str]
    """Words of the grammar: by a bare word, no function of that name can be called."""
    functions: frozenset[str] = frozenset()
    """Functions of the database's, if the bare name is right before the parenthesis."""

    def cannot_write(self, name: str, *, touches: bool) -> bool:
        """Return whether a name calls nothing that writes.

        ``touches`` says that there is no blank before the parenthesis.
        """
        return name in self.words or (touches and name in self.functions)


_ANYWHERE = frozenset(
    """
    all and any as between case distinct else except exists from group having in limit not offset
    on or order row select some table then to union unique using values when where window with
    bigint bit char character decimal float int integer interval numeric real smallint time
    timestamp varchar
    """.split()
)

POSTGRESQL = Names(
    _ANYWHERE
    | set("array cast intersect lateral only".split())
    | set("coalesce extract greatest least nullif position trim".split())
)
"""What PostgreSQL reserves or does not let a function be called by.

Its other words, such as ``filter``, ``join`` and ``over``, can be names of functions.
"""

_MYSQL_WORDS = _ANYWHERE | set("by cross if is join like over partition recursive".split())

_MYSQL_FUNCTIONS = frozenset(
    """
    abs ascii atan avg bin binary bit_and bit_count bit_length bit_or bit_xor cast ceil ceiling
    char_length character_length coalesce concat concat_ws conv convert cos count crc32 cume_dist
    curdate current_date current_time current_timestamp current_user curtime database date date_add
    date_format date_sub datediff day dayname dayofmonth dayofweek dayofyear degrees dense_rank
    elt exp extract field find_in_set first_value floor format found_rows from_base64 from_days
    from_unixtime greatest group_concat hex hour if ifnull instr isnull json_array json_contains
    json_extract json_keys json_length json_object json_quote json_search json_set json_type
    json_unquote json_valid lag last_day last_insert_id last_value lcase lead least left length ln
    localtime localtimestamp locate log log10 log2 lower lpad ltrim makedate max md5 microsecond mid
    min minute mod month monthname now ntile nullif oct octet_length ord percent_rank pi position
    pow power quarter quote radians rand rank regexp_replace repeat replace reverse right round
    row_number rpad rtrim schema second sha1 sha2 sign sin soundex space sqrt std stddev strcmp
    str_to_date substr substring substring_index sum tan timestampadd timestampdiff to_base64
    to_days trim ucase unhex unix_timestamp upper user utc_date utc_time utc_timestamp uuid variance
    version week weekday weekofyear year yearweek
    """.split()
)
"""Functions that MariaDB and MySQL both have.

With a blank before the parenthesis, MariaDB calls the app's function of that name.
"""

MYSQL = Names(_MYSQL_WORDS, _MYSQL_FUNCTIONS)

OTHERS = Names(
    _MYSQL_WORDS
    | POSTGRESQL.words
    | set("conflict filter ilike materialized of similar within".split())
)
"""Words of the grammar of any database."""

_SQLITE_FUNCTIONS = frozenset(
    """
    abs avg ceil ceiling coalesce concat concat_ws count cume_dist current_date current_time
    current_timestamp date datetime dense_rank exp first_value floor format group_concat hex ifnull
    iif instr json json_array json_array_length json_each json_extract json_group_array
    json_group_object json_object julianday lag last_value lead length ln log lower ltrim max min
    mod ntile nullif percent_rank power printf radians random rank replace round row_number rtrim
    sign sqrt strftime substr substring sum time timediff total trim trunc typeof unixepoch upper
    """.split()
)
"""Functions of SQLite."""

SQLITE = Names(OTHERS.words, _SQLITE_FUNCTIONS)
"""What an app's own function of such a name writes is counted all the same."""
