//! The list of all tests, and what makes functions of the runner's out of it.

/// Calls a macro with all tests, each under the file that it stands in.
#[doc(hidden)]
#[macro_export]
macro_rules! with_all {
    ($macro:path $(, $more:expr)?) => {
        $macro! {
            $($more;)?
            admin_socket {
                the_admin_socket_lists_for_vspcpys_clients_and_knows_an_operator_by_its_user
                a_rule_for_a_user_is_kept_on_the_admin_socket
                a_second_server_does_not_take_the_admin_socket_from_a_live_one
                what_is_no_socket_is_not_taken_for_the_admin_socket_and_stays
                the_admin_socket_of_a_killed_server_is_taken_over_and_goes_when_a_server_stops
                a_crowd_on_the_admin_socket_costs_nobody_else_anything
            }
            #[cfg(feature = "tls")]
            admin_tls {
                the_admin_port_lists_within_tls_and_in_clear_where_either_is_welcome
                an_operator_is_known_by_its_certificate_and_without_one_not_let_in
                a_new_certificate_is_served_on_the_admin_port_too
                an_admin_port_that_the_network_reaches_is_warned_of_unless_certificates_are_asked_for
            }
            #[cfg(feature = "tls")]
            client_tls {
                all_of_it_is_said_within_tls_to_a_server_that_asks_for_certificates
            }
            client_tour {
                consoles_are_listed_used_scripted_and_followed
                an_operators_words_do_what_they_say
            }
            configuring {
                a_file_says_how_to_serve_and_who_starts_the_server_may_say_otherwise
                a_file_with_a_fault_is_refused_with_its_line_and_one_without_is_checked
                a_hangup_changes_what_it_can_and_says_what_takes_a_restart
                a_file_with_a_fault_changes_nothing_at_a_hangup
                whoever_has_a_server_reload_is_told_what_came_of_it
                a_program_that_is_named_at_a_hangup_is_run_from_then_on
                consoles_that_a_rule_takes_out_are_not_logged
                certain_consoles_are_served_as_their_rules_say
                a_console_with_a_list_is_for_those_whom_it_names_from_one_hangup_to_the_next
            }
            dialling {
                a_console_is_forwarded_and_what_a_target_misses_it_is_shown_later
                a_vm_is_connected_to_what_it_asks_for_where_that_is_allowed
                a_serial_line_is_a_console_whoever_of_the_two_connects
                consoles_go_where_the_file_says_from_one_hangup_to_the_next
            }
            dialling_drill {
                lines_that_flap_or_find_no_descriptor_are_no_trouble_to_others
            }
            dialling_local {
                a_line_that_is_a_program_is_run_again_when_it_ends
                a_program_that_is_missing_or_fails_is_told_of_and_not_run_without_pause
                a_program_has_nothing_of_the_servers_and_ends_with_it
                a_line_that_is_a_pseudoterminal_outlasts_those_who_open_it
                a_serial_port_is_set_as_clients_say_and_put_back_at_the_end
                a_serial_port_that_vanishes_is_opened_again_as_it_was_set
            }
            #[cfg(feature = "tls")]
            dialling_tls {
                a_target_is_connected_to_over_tls_if_its_certificate_is_trusted
                a_line_that_connects_over_tls_is_a_console_once_its_handshake_is_over
            }
            doctor {
                the_doctor_tells_the_server_that_runs_from_whoever_else_has_its_port
                the_doctor_is_the_servers_own_program_and_passes_on_its_exit_code
                the_doctor_sees_what_its_user_may_not_do
                the_doctor_asks_redis_whether_it_lets_the_server_in_and_takes_writes
                what_a_host_finds_at_a_server_in_clear_is_told_with_what_to_paste
                whoever_else_is_at_an_address_is_told_from_a_concentrator
            }
            #[cfg(feature = "tls")]
            doctor_tls {
                what_a_host_finds_is_told_in_each_way_to_tls
            }
            fairness {
                a_vm_that_never_stops_talking_does_not_keep_keys_from_others
                a_vm_that_prints_escapes_without_end_to_a_raw_client_does_not_keep_keys_from_others
            }
            front_door {
                whoever_has_a_key_uses_consoles_under_a_name_of_their_own_and_nothing_else
            }
            guest_agent {
                vspc_runs_programs_copies_forwards_and_reads_facts_where_the_agent_is
                a_linux_guest_with_an_agent_is_used_crashes_and_goes_on_where_it_was
            }
            guest_noise {
                all_is_exact_in_a_guest_whose_line_spoils_one_byte_in_ten_thousand
            }
            guest_tour {
                a_guest_that_stands_still_is_told_of_and_can_be_given_up
                a_program_in_a_guest_has_its_bytes_its_errors_and_its_status
                files_go_into_a_guest_and_out_of_it_and_go_on_when_its_agent_was_killed
                connections_go_into_a_guest_and_out_of_it
                facts_of_a_guest_are_told_and_set_and_what_is_open_in_it_is_shown
                load_on_guests_can_be_put_and_tells_what_it_measured
            }
            hooks {
                a_program_gets_no_socket_that_the_server_was_handed_and_no_word_of_it
                a_program_is_run_for_what_happens_to_a_console_in_that_order
                programs_that_never_end_keep_nobody_from_typing_and_end_with_the_server
            }
            hyperstart {
                programs_run_in_a_guest_that_speaks_hyperstarts_protocol
            }
            leaving {
                the_last_words_of_a_vm_that_resets_while_someone_types_reach_its_client
                the_last_command_of_a_client_that_resets_while_its_vm_prints_reaches_the_vm
                all_of_a_crowd_that_leaves_at_one_moment_are_noticed_while_keys_arrive
                a_crowd_of_raw_clients_that_leaves_a_silent_console_is_gone
                clients_that_leave_while_the_vm_takes_nothing_are_noticed
                a_client_that_resets_behind_a_paste_that_nobody_takes_is_noticed_on_a_quiet_server
                clients_that_end_behind_typing_that_nobody_takes_are_not_counted_and_their_typing_is_delivered
                clients_that_end_behind_typing_that_nobody_takes_yield_to_a_newcomer
            }
            listeners {
                a_vm_comes_by_a_unix_socket_with_the_permissions_that_were_asked_for
                client_ports_are_unix_sockets_in_a_folder_that_go_with_the_server
                a_folder_for_client_ports_that_is_none_is_named_with_what_to_do
                a_vm_on_a_unix_socket_is_told_of_by_its_user_and_asked_before_another_takes_its_input
                where_hosts_connect_may_be_said_instead_of_the_port_that_it_is_by_default
                listeners_that_were_handed_over_are_served_and_stay_open_when_the_server_ends
                one_name_stands_for_all_sockets_of_a_unit_and_one_that_nobody_takes_is_told_of
                what_was_handed_over_and_is_no_listener_ends_it_with_one_line_and_code_2
                systemds_own_launcher_hands_over_what_is_served
                a_vsock_listener_is_opened_or_refused_with_what_the_kernel_lacks
            }
            locking {
                two_and_three_are_granted_what_the_table_of_locks_says
                a_watcher_stays_one_when_the_holder_leaves_and_stands_in_the_way_of_exclusive_alone
                what_a_watcher_types_is_read_and_dropped
                a_lock_ends_with_its_holder_at_each_step_and_however_it_ends
            }
            log_reading {
                a_log_is_read_by_time_and_by_pattern_over_all_of_its_files
                a_log_is_followed_over_its_rotation_and_a_restart_of_the_server
                a_span_of_a_log_is_a_cast_that_says_when_what_was_printed
                asciinema_plays_a_cast_to_the_bytes_that_the_vm_has_printed
                after_a_restart_the_first_client_sees_what_was_there_before_what_is_printed_since
                whoever_follows_the_log_of_a_console_that_ends_has_the_end_of_it
                a_console_that_a_store_puts_back_has_its_output_before_its_vm_is_back
                a_server_without_logs_says_so_and_one_that_is_down_is_not_needed
            }
            logs {
                a_log_has_what_a_client_saw_at_forty_megabytes_a_second_and_nothing_else
                the_last_line_is_in_the_log_before_it_ends_and_what_is_printed_last_before_the_server_does
                a_vm_that_does_not_tell_its_name_is_logged_all_the_same
                whatever_vms_are_called_their_logs_are_in_the_directory_and_apart
                nova_finds_logs_by_uuid_with_the_mode_that_was_asked_for
                logs_are_opened_anew_after_sighup_so_that_they_can_be_rotated
                a_log_goes_on_where_it_ended_when_the_server_is_started_again
                a_full_disk_is_told_of_once_keeps_nobody_from_typing_and_is_told_of_in_the_log
                a_directory_that_goes_and_comes_back_costs_what_was_printed_meanwhile
                what_is_no_file_of_the_directory_is_not_written_to
                a_thousand_consoles_are_logged_with_few_files_open
                a_directory_that_is_not_there_keeps_a_server_from_starting
                a_full_log_becomes_an_older_one_and_the_oldest_goes
                each_line_has_the_time_at_which_it_began_where_that_is_asked_for
            }
            linux_guest {
                a_linux_guest_boots_lets_people_log_in_and_moves_while_it_counts_and_they_type
            }
            migration {
                a_line_whose_vm_moves_keeps_its_client_and_every_byte_in_order
                what_is_typed_while_a_vm_leaves_reaches_it_where_it_runs_then
                a_target_whose_relay_dies_can_be_another_one
                a_qemu_that_is_migrated_live_keeps_its_client_and_every_byte
                a_qemu_whose_migration_others_steer_is_followed_and_every_byte_that_it_prints
                a_migration_that_fails_within_qemu_leaves_the_source_with_its_client_and_every_byte
                a_break_reaches_the_guest_in_its_place_and_one_that_a_line_cannot_carry_is_dropped
            }
            other_servers {
                a_start_script_of_vspcpys_serves_and_keeps_each_vms_port
                a_start_script_of_vspcpys_logs_with_its_prefix_and_its_mode
                a_start_script_of_vspcpys_takes_its_backends_words_and_its_variables
                scripts_that_ask_node_vspcs_redis_for_a_port_by_the_name_that_the_vm_has_find_it
                nova_reads_the_end_of_a_vms_log_by_its_uuid_while_the_vm_goes_on_printing
            }
            packaged {
                logrotate_rotates_logs_as_the_snippet_says_and_nothing_is_lost
                the_journal_is_told_levels_and_no_times
                the_local_syslog_has_the_log_and_a_syslog_that_comes_again_goes_on_having_it
            }
            patterns {
                a_line_that_is_looked_for_is_told_however_it_is_printed
                a_vm_that_prints_what_is_looked_for_without_end_is_told_of_now_and_then_and_holds_nobody_up
                what_is_looked_for_from_a_hangup_on_is_what_is_printed_from_then_on
            }
            programs {
                telnet_types_into_a_vm_and_reads_from_it
                busybox_telnet_types_into_a_vm_and_reads_from_it
                nc_gets_the_vms_bytes_and_nothing_else_after_the_offers
                gdb_debugs_through_a_console
            }
            proxies {
                whom_a_proxy_forwards_is_told_as_if_it_had_come_itself
                whoever_may_connect_to_a_unix_socket_can_be_a_proxy
                haproxy_says_in_both_versions_whom_it_forwards
            }
            redis {
                each_vm_has_its_port_again_after_a_kill_and_its_name_is_published
                a_second_server_of_one_name_does_not_start
                servers_that_share_a_redis_give_out_no_port_twice
                a_redis_that_is_killed_and_comes_back_empty_costs_nobody_anything
                a_server_that_is_killed_and_its_redis_too_has_lost_no_port_that_was_reported_kept
                a_redis_that_forgets_everything_is_told_it_again
                what_changes_right_after_redis_has_forgotten_everything_hides_nothing
                a_server_whose_name_another_one_has_says_so_once_and_leaves_alone_what_is_kept
                a_redis_that_takes_no_writes_is_told_of_once_and_made_up_for
                a_redis_that_stands_still_keeps_nobody_from_typing
                a_user_with_a_password_a_unix_socket_and_a_database_lead_to_it
                a_redis_that_is_not_there_keeps_a_server_from_starting
            }
            redis_failover {
                a_failover_to_a_replica_that_lacks_the_last_writes_costs_nobody_anything
                a_master_that_was_made_a_replica_is_left_for_the_one_that_haproxy_leads_to
            }
            #[cfg(feature = "tls")]
            redis_tls {
                tls_leads_to_a_redis_whose_certificate_is_trusted_and_to_no_other
            }
            refusing {
                bad_options_and_addresses_end_it_with_one_line_and_code_2
                a_default_admin_port_that_is_in_use_keeps_no_server_from_starting
                client_ports_that_the_system_may_take_are_told_about_at_start
                help_and_version_are_printed_and_that_is_all
                who_is_no_vm_is_told_so_even_if_it_talks_on
                the_end_of_descriptors_is_survived_and_others_do_not_notice
                descriptors_that_run_out_unforeseen_cost_newcomers_only
                a_listener_that_fails_on_a_quiet_server_is_asked_again
                strangers_that_say_nothing_do_not_push_vms_out
                vms_that_come_together_take_the_places_of_strangers_and_none_is_turned_away
            }
            relays {
                vms_that_move_through_a_relay_lose_nothing
                vms_that_move_between_hosts_in_other_networks_lose_nothing
                a_host_that_is_reset_behind_a_relay_is_reset_for_the_server
                a_relay_says_for_whom_it_connects_and_the_server_believes_it
                a_line_whose_server_is_killed_goes_on_where_it_was
                a_line_whose_server_is_stopped_goes_on_where_it_was
            }
            serial_programs {
                pyserial_opens_a_console_as_a_port_sets_it_and_sends_every_byte_through_it
                ser2net_carries_a_console_on_byte_for_byte
                ser2net_s_port_is_a_console_and_is_set_for_real
            }
            serving {
                a_client_reads_what_its_vm_prints_and_types_into_it
                a_telnet_client_is_greeted
                megabytes_arrive_whole_in_both_directions_at_once
                a_client_that_ends_its_input_has_its_bytes_delivered_and_goes_on_reading
                a_client_that_never_reads_holds_little_in_the_kernel
                urgent_data_comes_where_it_was_sent
                a_console_and_its_clients_outlive_the_connection_of_the_vm
                the_table_of_descriptors_has_room_for_all_of_a_fleet_before_it_comes
                garbage_on_every_port_leaves_others_alone
                both_families_are_served
                an_ipv4_address_mapped_into_ipv6_is_served
                counters_are_logged_when_asked_for
                a_raw_client_gets_the_vms_bytes_and_nothing_else_after_the_offers
            }
            stalling {
                bytes_that_came_while_the_process_stood_still_are_read_before_its_timers_fire
                who_had_no_time_to_say_which_vm_it_is_gets_it
                a_move_goes_on_when_the_server_has_stood_still_for_longer_than_its_host_waits
            }
            state {
                vms_that_come_back_in_another_order_have_their_ports
                a_client_finds_its_port_before_its_vm_is_back
                a_server_that_is_killed_at_any_moment_has_lost_no_port_that_was_reported_kept
                a_damaged_state_file_keeps_a_server_from_starting_and_stays_as_it_is
                two_servers_do_not_share_a_state_file
                a_port_that_something_else_has_meanwhile_costs_its_console_that_port_and_nothing_else
                a_disk_that_is_full_is_told_of_once_costs_nothing_that_was_kept_and_is_made_up_for
                a_disk_that_hangs_keeps_nobody_from_typing_and_no_vm_from_its_port
                a_disk_that_hangs_keeps_no_server_from_stopping
            }
            stopping {
                a_stop_delivers_what_is_queued_and_ends_with_code_0
                an_idle_server_stops
                peers_that_never_close_cannot_keep_it
                a_second_signal_ends_it_at_once
                a_stderr_that_nobody_reads_holds_nothing_up
            }
            supervised {
                a_service_manager_hears_when_it_serves_that_it_lives_and_when_it_stops
                the_process_id_is_in_its_file_for_as_long_as_it_serves
                what_vspcpys_start_scripts_say_is_understood
                the_unit_in_packaging_is_one_and_shuts_the_server_in
            }
            takeover {
                a_newcomer_to_a_live_vm_gets_nothing_that_is_typed
                a_vm_that_stands_still_while_its_kernel_acknowledges_keeps_the_input
                a_vm_that_takes_nothing_keeps_the_input
                a_newcomer_gets_what_is_typed_as_soon_as_the_vm_is_reset
            }
            #[cfg(feature = "tls")]
            tls {
                a_vm_and_a_client_talk_over_tls_both
                megabytes_arrive_whole_over_tls_in_both_directions_at_once
                telnet_and_tls_are_served_on_one_port
                telnet_on_a_port_for_tls_is_closed_and_the_log_says_why
                peers_that_begin_no_handshake_keep_nobody_waiting
                a_host_goes_over_to_tls_when_it_offers_to
                a_host_that_stays_in_clear_is_served_unless_tls_is_required
                a_client_is_let_in_by_its_certificate_and_not_without
                a_client_that_ends_its_input_over_tls_goes_on_reading
                a_stop_delivers_what_is_queued_and_ends_tls_in_order
                tls_begins_behind_a_proxys_header
            }
            #[cfg(feature = "tls")]
            tls_files {
                files_that_cannot_be_used_end_it_with_one_line_and_code_2
                a_check_of_the_configuration_looks_at_certificates_too
                a_certificate_is_made_once_and_never_replaced_unless_told_to
                a_new_certificate_is_served_while_old_sessions_live_on
                other_files_are_served_with_once_the_configuration_names_them
                files_that_have_become_unusable_leave_the_certificate_in_use
                a_pipe_in_a_files_place_holds_nobody_up_and_the_next_reload_works
                a_hangup_does_not_end_a_server_without_certificates
                client_ports_that_are_open_to_the_network_in_clear_are_told_about
            }
            #[cfg(feature = "tls")]
            tls_programs {
                openssl_types_into_a_vm_and_reads_from_it
                openssl_can_be_a_host
                what_is_older_than_tls_1_2_is_refused_and_the_log_says_so
                openssl_is_let_in_by_its_certificate_and_not_without
                telnet_ssl_types_into_a_vm_and_reads_from_it
                telnet_ssl_goes_over_to_tls_where_hosts_connect
                python_takes_the_server_for_whom_it_is
            }
            watching {
                a_thread_reads_a_console_byte_by_byte_as_the_vm_printed_it
                a_thread_that_does_not_read_holds_up_nobody_and_learns_what_it_missed
                what_a_watch_holds_is_bounded_when_its_vm_prints_a_byte_at_a_time
                a_paused_vm_goes_on_as_soon_as_its_watch_has_room
                a_console_that_is_not_there_is_no_watch
                a_watch_that_is_dropped_is_forgotten_and_the_server_goes_on
            }
        }
    };
}

/// Makes a test of the runner's out of each, in a module named as its file.
#[macro_export]
macro_rules! server_tests {
    ($subject:expr) => {
        $crate::with_all!($crate::declare, $subject);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! declare {
    ($subject:expr; $($(#[$only:meta])* $module:ident { $($test:ident)* })*) => {$(
        $(#[$only])*
        mod $module {$(
            #[test]
            fn $test() {
                $crate::run(concat!(stringify!($module), "::", stringify!($test)), $subject);
            }
        )*}
    )*};
}

macro_rules! define_run {
    ($($(#[$only:meta])* $module:ident { $($test:ident)* })*) => {
        /// Runs the test of this name (`file::function`) on a server, always the same one in one process.
        ///
        /// # Panics
        ///
        /// The server is not as it must be.
        pub fn run(test: &str, subject: Subject) {
            let _ = SUBJECT.set(subject);
            match test {
                $($(concat!(stringify!($module), "::", stringify!($test)) => $module::$test(),)*)*
                _ => panic!("there is no test {test}"),
            }
        }
    };
}
