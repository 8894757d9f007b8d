//! The store's contract: the same tests over every database.

mod claims;
mod crash;
mod history;
mod invoices;
mod nouns;
mod place;
mod values;
mod work;
mod writers;

pub(crate) use self::{
    claims::*, crash::*, history::*, invoices::*, nouns::*, place::Place, values::*, work::*, writers::*,
};

/// Declares every test of the contract for one kind of place.
macro_rules! contract_over {
    ($open:path) => {
        contract_over! { $open;
            a_value_comes_back_as_it_was_written
            a_change_to_what_moved_on_is_a_conflict
            what_may_exist_once_is_taken_the_second_time
            a_name_is_free_again_once_its_owner_has_ended
            pages_cover_a_list_once_and_in_order
            a_row_that_names_a_missing_parent_is_refused
            lists_for_reconcilers_hold_what_is_live
            what_was_used_stands_once_each_and_is_never_written_over
            quotas_stand_once_each_parents_first_and_go_for_good
            policies_stand_by_name_where_they_were_written_and_go_for_good
            skus_stand_once_each_by_name_for_good
            reservations_are_live_until_they_are_over
            a_dropped_transaction_leaves_nothing
            nothing_is_committed_without_an_audit_entry
            a_transaction_that_met_an_error_cannot_be_committed
            a_write_dropped_halfway_cannot_be_committed
            readers_see_what_was_committed_and_a_transaction_also_its_own
            writers_at_once_leave_no_gap_and_lose_no_update
            a_writer_that_waits_too_long_is_told_so
            the_audit_log_is_the_tree_over_its_entries
            every_view_is_a_chain_without_gaps
            full_tiles_leave_their_roots
            a_log_of_before_tiles_and_views_gets_them_when_it_opens
            an_entry_too_long_for_a_bundle_is_not_written
            history_cannot_be_edited
            an_issued_invoice_stays_as_it_is_and_numbers_have_no_gaps
            use_that_no_invoice_covers_is_found_each_once
            the_ledger_moves_balances_and_refuses_what_does_not_balance
            usage_counts_once_however_often_it_is_sent
            usage_sums_what_ended_within_the_period
            use_of_any_length_is_seen_once_each
            what_cannot_be_counted_is_kept_whole_and_once
            numbers_beyond_63_bits_are_refused
            progress_of_a_long_job_stays_bounded
            a_pass_is_made_again_from_its_chain
            what_changed_since_a_mark_is_never_missed
            an_answer_is_kept_once_and_forgotten_by_age
            a_claim_outlasts_a_clock_that_is_ahead
            the_outbox_delivers_until_it_is_done
            a_lease_has_one_holder_at_a_time
            a_secret_value_comes_back_byte_for_byte
            replicas_that_start_together_make_one_schema
            a_database_from_a_newer_version_is_refused
            what_was_acknowledged_survives_a_kill
        }
    };
    ($open:path; $($name:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let place = $open().await;
            contract::$name(&place).await;
            place.remove().await;
        }
    )*};
}
