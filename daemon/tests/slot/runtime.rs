//! openraft's suite for runtimes. It is called test by test: its own way to run them blocks a thread.

use cairn_daemon::slot::runtime::IoRuntime;
use openraft::testing::runtime::Suite;

use crate::drivers::{Place, on_each_driver};

on_each_driver!(suite);

macro_rules! all {
    ($($test:ident),* $(,)?) => {
        $(Suite::<IoRuntime>::$test().await;)*
    };
}

async fn suite(_: Place) {
    all!(
        test_spawn_join_handle,
        test_thread_rng,
        test_sleep,
        test_instant,
        test_instant_arithmetic,
        test_instant_sub_instant,
        test_instant_saturating_duration_since,
        test_instant_ord,
        test_sleep_until,
        test_timeout,
        test_timeout_at,
        test_mpsc_recv_empty,
        test_mpsc_recv_channel_closed,
        test_mpsc_weak_sender_wont_prevent_channel_close,
        test_mpsc_weak_sender_upgrade,
        test_mpsc_send,
        test_mpsc_send_to_closed_channel,
        test_mpsc_backpressure,
        test_watch_init_value,
        test_watch_overwrite_init_value,
        test_watch_send_error_no_receiver,
        test_watch_send_if_modified,
        test_watch_wait_until_ge,
        test_watch_wait_until,
        test_watch_changed_marks_as_seen,
        test_watch_borrow_and_update_marks_seen,
        test_watch_changed_returns_immediately_when_unseen,
        test_watch_multiple_borrow_then_changed,
        test_watch_wait_loop_pattern,
        test_watch_multiple_receivers,
        test_watch_subscribe,
        test_watch_send_if_different,
        test_watch_send_if_greater,
        test_oneshot_drop_tx,
        test_oneshot,
        test_oneshot_send_from_another_task,
        test_oneshot_send_to_dropped_rx,
        test_mutex,
        test_mutex_contention,
        test_mutex_lock_owned,
        test_task_local,
        test_task_local_on_completion_drop,
        test_task_local_take_value,
        test_task_local_poll_after_take_value,
        test_task_local_get_value,
    );
}
