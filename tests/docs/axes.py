"""What each line of the security checklist is about, and so where it has to be shown; and tests that show it there.

core: rules without I/O, shown once. store: what every store must do. adapter: what a visitor meets, in every framework. page:
pages and examples of ours. duty: the application's own; the page says what helps. none: not offered; the page says why.
"""

__all__ = ["AXES", "EVERYWHERE", "REASONS"]

AXES = {
    "core": "1 2 7-9 11-26 29-33 35 40 42-44 46 48 51 54-56 59 67 73 75-79 82 83 95-98 107-109 112 123 124 129-153 155 158-160"
    " 163 164 166-170 172 173 176-184 188-190 192 193 195-209 211 212",
    "store": "3 10 27 60-66 68 69 71 72 111 113-115 117 119-121 125-128 165 171 175 191",
    "adapter": "4-6 28 34 36-39 41 45 47 49 50 52 53 57 58 74 81 85-94 99-106 118 122 161 162 174 194 210",
    "page": "70 187",
    "duty": "80 84 110",
    "none": "116 154 156 157 185 186",
}

_CSRF = "web/test_csrf.py:the_same_story_in_every_framework"

EVERYWHERE = {
    # over every store; `contract:` is a sentence of StoreContract, which every store keeps, sync and async
    3: "contract:create_over_a_live_record_is_taken contract:create_over_a_tombstone_is_taken",
    10: "web/test_races.py:parallel_renewals_make_one_new_verifier_and_log_nobody_out",
    60: "contract:a_delete_among_writers_stays_deleted contract:replace_over_a_tombstone_is_gone"
    " web/test_races.py:a_logout_while_slow_requests_write_stays_a_logout",
    61: "stores/test_redis_processes.py:a_logout_among_writers_of_two_processes_stays_a_logout"
    " stores/test_mongo_processes.py:a_logout_among_writers_stays_a_logout"
    " stores/test_sqlalchemy_processes.py:a_logout_stays_though_a_slow_request_writes",
    62: "contract:a_hundred_increments_lose_nothing web/test_races.py:fifty_writers_of_different_keys_and_a_hundred_increments",
    63: "contract:touch_moves_times_and_no_version"
    " stores/test_commands_per_request.py:the_page_says_how_many_commands_a_request_costs",
    64: "contract:of_many_replaces_over_one_version_one_is_saved",
    65: "contract:a_record_is_gone_at_its_deadline",
    66: "contract:touch_never_passes_the_absolute_deadline contract:replace_never_keeps_a_deadline_past_the_absolute_one",
    68: "contract:load_of_an_expired_record_is_for_good contract:replace_of_an_expired_record_is_for_good",
    69: "contract:parallel_logins_keep_the_limit web/test_races.py:parallel_logins_with_a_limit_of_three_leave_three",
    71: "contract:end_user_ends_every_session",
    72: "contract:no_login_begun_before_an_end_user_survives_it"
    " web/test_races.py:no_session_begun_before_an_end_all_survives_it",
    111: "contract:data_is_bytes_of_any_kind",
    113: "contract:keys_are_case_sensitive_and_opaque contract:user_ids_are_opaque",
    114: "contract:user_ids_are_opaque",
    115: "stores/test_sqlite_file.py:another_applications_file_is_left_alone"
    " stores/test_postgres.py:somebody_elses_table_is_refused_and_left_as_it_was"
    " stores/test_sqlalchemy_client.py:a_table_of_somebody_elses_is_refused_and_left_as_it_is",
    117: "web/test_outages.py:fail_is_a_503_in_time_and_nobody_is_logged_out",
    119: "web/test_outages.py:fail_is_a_503_in_time_and_nobody_is_logged_out",
    120: "web/test_outages.py:fail_is_a_503_in_time_and_nobody_is_logged_out",
    121: "stores/test_redis_faults.py:of_ten_thousand_cancellations_none_misleads_a_reply"
    " stores/test_postgres_client.py:cancelled_requests_mix_up_no_answers"
    " stores/test_mongo_client.py:cancelled_commands_take_nobody_elses_reply",
    125: "contract:sweep_deletes_the_expired_only contract:sweep_keeps_to_its_limit",
    27: "stores/test_cookie.py:a_slow_request_does_not_bring_back_what_was_logged_out",
    126: "stores/test_encrypted.py:contract_over_memory stores/test_encrypted.py:contract_over_sqlite"
    " stores/test_encrypted.py:contract_over_redis stores/test_encrypted.py:contract_over_postgres"
    " stores/test_encrypted.py:contract_over_mongo",
    127: "stores/test_redis_settings.py:a_certificate_that_nobody_vouches_for_is_refused",
    128: "stores/test_memory.py:a_flood_of_anonymous_sessions_logs_nobody_out",
    165: "tokens/test_processes.py:a_hundred_parallel_refreshes_two_tabs_and_a_thief",
    171: "tokens/test_processes.py:a_process_that_is_killed_forgets_nothing",
    175: "tokens/test_feed_cut.py:past_the_stated_lag_the_policy_applies",
    191: "stores/test_tallies.py:of_many_at_once_each_counts_once",
    # in every framework
    4: "web/test_scenarios.py:a_hostile_cookie_is_no_cookie",
    5: "web/test_scenarios.py:a_hostile_cookie_is_no_cookie",
    6: "web/test_scenarios.py:a_hostile_cookie_is_no_cookie",
    28: "web/test_scenarios.py:the_first_value_sets_one_cookie_and_the_next_request_reads_it",
    34: "web/test_scenarios.py:a_logout_clears_the_cookie_and_ends_the_session_on_the_server"
    " web/test_scenarios.py:a_limited_cookie_says_its_path",
    36: "web/test_scenarios.py:the_first_value_sets_one_cookie_and_the_next_request_reads_it",
    37: "web/test_scenarios.py:the_first_value_sets_one_cookie_and_the_next_request_reads_it",
    38: "web/test_scenarios.py:only_remember_me_outlives_the_browser",
    39: "web/test_scenarios.py:over_plain_http_there_is_no_session",
    41: "web/test_scenarios.py:two_genuine_cookies_are_none",
    45: "web/test_scenarios.py:a_genuine_cookie_is_found_among_rubbish",
    47: "web/test_scenarios.py:a_cookie_in_either_of_two_fields_is_found",
    49: "web/test_scenarios.py:a_hostile_cookie_is_no_cookie",
    50: "web/test_scenarios.py:a_hostile_cookie_is_no_cookie",
    52: "web/test_scenarios.py:a_hostile_cookie_is_no_cookie",
    53: "web/test_scenarios.py:a_login_changes_the_cookie_and_the_old_one_opens_nothing",
    57: "web/test_scenarios.py:a_logout_clears_the_cookie_and_ends_the_session_on_the_server",
    85: "web/test_scenarios.py:what_the_application_says_of_caches_is_kept_where_it_is_safe",
    86: "web/test_scenarios.py:any_look_at_the_session_varies_by_cookie",
    87: "web/test_scenarios.py:a_page_that_never_touches_the_session_says_nothing",
    88: "web/test_scenarios.py:what_the_application_says_of_caches_is_kept_where_it_is_safe",
    90: "web/test_scenarios.py:responses_without_a_body_carry_the_cookie_too"
    " web/test_scenarios.py:what_changes_while_a_body_is_streamed_is_kept",
    58: _CSRF,
    89: _CSRF,
    91: _CSRF,
    92: _CSRF,
    93: _CSRF,
    94: _CSRF,
    99: _CSRF,
    100: _CSRF,
    101: _CSRF,
    102: _CSRF,
    104: _CSRF,
    74: "web/test_step_up.py:a_sensitive_act_asks_for_a_proof",
    81: "web/test_step_up.py:a_sensitive_act_asks_for_a_proof",
    103: "web/test_csrf.py:a_websocket_is_refused_before_it_is_accepted web/test_csrf.py:quart_and_aiohttp_refuse_handshakes_too",
    105: "web/test_behind_nginx.py:tls_ends_at_nginx_and_the_application_knows",
    106: "web/test_behind_nginx.py:tls_ends_at_nginx_and_the_application_knows",
    161: "bearer/test_frameworks.py:every_refusal_reads_the_same",
    162: "bearer/test_frameworks.py:a_token_in_the_address_or_the_body_counts_for_nothing",
    174: "bearer/test_frameworks.py:refresh_and_revoke",
    194: "throttling/test_frameworks.py:a_login_is_throttled_and_the_owner_is_known",
    210: "web/test_live.py:a_websocket_is_closed_when_its_user_logs_out"
    " web/test_event_streams.py:a_stream_ends_when_its_session_is_ended_and_the_application_hears_of_it",
    118: "web/test_scenarios.py:without_a_store_there_is_no_session_and_no_anonymous_page",
    122: "web/test_servers.py:visitors_at_the_same_time_get_each_their_own",
}
"""Line -> tests of every store or framework, as `folder/file.py:test without its test_`."""

REASONS = {
    80: "a page of yours shows the way out; `session.logout()` is it, and every example application has the button on each page",
    84: "an OAuth callback without the state it began with logs nobody in: `take()` keeps that state for one use",
    110: "guards belong to routes, as `CurrentUser`, `login_required` and `require_login` are; do not compare paths as text",
    116: "no store writes a file for each session, and none makes a path of an id",
    154: "encrypted tokens (JWE) are not offered: nothing in an access token is a secret from whom it was issued to",
    156: "no key agreement is done: encrypted tokens (JWE) are not offered",
    157: "no RSA decryption is done: encrypted tokens (JWE) are not offered",
    185: "Device Bound Session Credentials are a draft that one browser has; proof of possession is offered for tokens (DPoP)",
    186: "there is no such endpoint, since there are no Device Bound Session Credentials",
}
"""Line -> why it is the application's duty and what helps, or why it is not offered."""
