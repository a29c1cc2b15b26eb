"""Functions whose calls cannot write, as far as a name proves that on each database."""

from __future__ import annotations

POSTGRESQL = frozenset("coalesce extract greatest least nullif position trim".split())
"""Words of PostgreSQL's grammar; any other function can be overloaded by the app."""

MYSQL = frozenset(
    """
    abs ascii atan avg bin binary bit_and bit_count bit_length bit_or bit_xor ceil ceiling
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

By its bare name, right before the parenthesis, no other function of that name can be called.
"""

SQLITE = frozenset(
    """
    abs avg ceil ceiling coalesce concat concat_ws count cume_dist current_date current_time
    current_timestamp date datetime dense_rank exp first_value floor format group_concat hex ifnull
    iif instr json json_array json_array_length json_each json_extract json_group_array
    json_group_object json_object julianday lag last_value lead length ln log lower ltrim max min
    mod ntile nullif percent_rank power printf radians random rank replace round row_number rtrim
    sign sqrt strftime substr substring sum time timediff total trim trunc typeof unixepoch upper
    """.split()
)
"""Functions of SQLite. What an app's own function of that name writes is counted all the same."""
