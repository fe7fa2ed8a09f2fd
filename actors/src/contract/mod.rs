//! The contract of [`Storage`](crate::ports::Storage) as a suite that every implementation runs.
//!
//! [`storage_contract!`](crate::storage_contract) makes one test of each case; [`random`] makes transactions
//! for comparing two implementations change by change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of this is test code")]

mod audit;
mod callbacks;
mod consequences;
mod deliveries;
mod delivery;
mod devices;
mod fixtures;
mod moves;
mod queries;
pub mod random;
mod retention;
mod runs;
mod sessions;
mod transactions;
mod view;

pub use audit::*;
pub use callbacks::*;
pub use consequences::*;
pub use deliveries::*;
pub use delivery::*;
pub use devices::*;
pub use fixtures::*;
pub use moves::*;
pub use queries::*;
pub use retention::*;
pub use runs::*;
pub use sessions::*;
pub use transactions::*;
pub use view::View;

/// Makes one `#[test]` per case. The expression makes an empty store: anything that derefs to a `Storage`.
#[macro_export]
macro_rules! storage_contract {
    ($open:expr) => {
        $crate::storage_contract! { @cases $open;
            transactions_apply_in_the_order_of_submission,
            a_transaction_is_whole_or_not_at_all,
            a_refused_transaction_does_not_disturb_its_neighbours,
            done_is_called_once_per_transaction,
            an_empty_transaction_is_a_barrier,
            a_read_after_done_sees_the_write,
            changes_of_one_transaction_see_each_other,
            submissions_from_many_threads_all_arrive,
            the_audit_record_is_read_newest_first,
            the_audit_record_is_filtered,
            a_page_of_the_audit_record_looks_at_so_many_rows,
            a_session_is_created_once,
            a_child_needs_its_parent,
            a_loaded_session_is_complete,
            updated_at_never_goes_back,
            a_session_in_use_is_not_deleted,
            a_deleted_session_takes_parents_that_waited_for_it,
            a_deleted_session_leaves_its_runs,
            a_deleted_key_can_be_used_again,
            a_reset_session_begins_anew,
            a_session_gets_other_names,
            a_session_that_is_handed_over_takes_its_results_along,
            results_of_a_session_that_goes_on_alone_hold_nothing_up,
            a_session_is_moved_from_the_parent_that_it_has,
            survivors_are_those_whose_parents_go_away,
            entries_append_without_gaps,
            entries_need_an_open_run,
            entries_of_every_kind_come_back,
            a_run_is_inserted_once_and_new,
            a_run_starts_goes_on_and_yields,
            a_step_is_recorded,
            attempts_are_counted_of_runs_at_work,
            starts_that_die_early_are_counted,
            a_run_leaves_its_traces,
            the_first_end_of_a_run_wins,
            an_ended_run_takes_no_change,
            an_unknown_run_takes_no_change,
            a_tool_call_starts_and_finishes_once,
            a_result_is_put_on_its_way_once_ever,
            results_are_taken_exactly_once,
            what_a_run_led_to_is_found_and_nothing_else,
            a_message_that_took_a_result_belongs_to_what_led_to_it,
            runs_are_found_by_the_names_that_clients_gave_them,
            steering_messages_are_taken_exactly_once,
            a_request_is_named_once,
            an_earlier_request_survives_its_session,
            open_runs_are_listed_oldest_first,
            a_subtree_is_listed_deepest_first,
            usage_of_a_tree_is_the_sum_over_its_runs,
            figures_of_a_session_are_of_what_has_ended,
            waiting_sessions_have_something_to_take,
            what_is_unfinished_is_told_by_root,
            what_is_on_its_way_to_or_from_a_subtree_is_found,
            everything_is_counted,
            usage_is_added_up_by_day,
            sessions_are_filtered_and_paged,
            runs_are_filtered_and_paged,
            transcripts_are_paged,
            the_end_of_a_transcript_is_read_first,
            sessions_are_shown_with_their_runs_and_children,
            overviews_are_filtered_counted_and_paged,
            runs_are_counted_by_session_model_and_day,
            tool_calls_are_counted_by_session_tool_and_day,
            devices_come_back_as_they_were,
            a_device_is_changed_in_place,
            a_removed_device_leaves_nothing,
            a_token_needs_its_device,
            a_request_for_approval_is_taken_once,
            a_setup_code_is_taken_once,
            a_run_and_where_its_result_is_wanted_are_kept_together,
            a_result_is_wanted_until_it_is_delivered,
            attempts_to_deliver_a_result_are_kept,
            every_delivery_is_listed_with_what_became_of_it,
            deliveries_are_filtered_and_counted,
            a_result_is_dismissed_once_and_for_good,
            a_result_for_nobody_is_listed_until_its_session_is_forgotten,
            quiet_sessions_are_paged_by_age,
            a_session_retires_only_as_it_was_read,
            names_of_requests_are_forgotten_by_age,
            deleted_sessions_are_forgotten_by_age,
        }
    };
    (@cases $open:expr; $($case:ident,)+) => {
        $(
            #[test]
            fn $case() {
                let store = $open;
                $crate::contract::block_on($crate::contract::$case(&*store));
            }
        )+
    };
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::MemoryStorage;

    storage_contract!(Arc::new(MemoryStorage::new()));
}
