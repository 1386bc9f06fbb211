//! What the process uses, and how much of it each worker may.

/// Highest resident memory of this process so far, in MiB, rounded up. 0 where the kernel does not tell.
///
/// `VmHWM` of `/proc/self/status`, see proc(5).
pub fn peak_rss_mb() -> u32 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|value| value.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .map_or(0, |kib| kib.div_ceil(1024) as u32)
}

const MIB: usize = 1 << 20;

/// Arrow bytes of a batch on its way from the decoder to the encoder. Larger ones gain nothing, cost cache, and leave larger
/// holes in the heap: with 2 MiB a narrow table took half as much memory again.
pub const BATCH_BYTES: usize = 256 * 1024;

const SMALLEST_ROW_GROUP: usize = MIB;
/// What a worker holds at the least: the smallest batch and row group, a receive pipe of four chunks, the sink's buffer, and
/// what codecs and allocators keep beside them. Measured.
const SMALLEST_SHARE_MB: usize = 5;

/// What each column of a file in the making takes beside its values, in KiB: the codec's context, and the encoder's buffers.
/// Measured with zstd.
const COLUMN_KB: usize = 120;

/// How many of the `wanted` workers the budget has room for, each with a file of so many columns. At least one.
pub fn workers(budget_mb: usize, columns: usize, wanted: usize) -> usize {
    wanted.min(budget_mb / (SMALLEST_SHARE_MB + columns * COLUMN_KB / 1024)).max(1)
}

/// Encoded bytes after which a worker closes a row group: what was `asked`, or what the budget has room for. A worker's peak
/// is about the batch, the row group in its encoder (encoded pages of all columns and the dictionaries that are still open),
/// and the file's write buffer; the receive buffers are bounded beside it. A quarter of the share goes to the encoded row
/// group, of which an encoder holds two to three times as much.
pub fn row_group_bytes(budget_mb: usize, workers: usize, asked: usize) -> usize {
    let share = budget_mb * MIB / workers.max(1);
    asked.min((share / 4).max(SMALLEST_ROW_GROUP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_the_kernel() {
        assert!(peak_rss_mb() > 0);
    }

    #[test]
    fn a_small_budget_has_room_for_few_workers_and_always_for_one() {
        let narrow = |budget, wanted| workers(budget, 3, wanted);
        assert_eq!([narrow(128, 2), narrow(128, 64), narrow(16, 8), narrow(1, 8)], [2, 25, 3, 1]);
    }

    #[test]
    fn every_column_takes_its_share() {
        assert_eq!([workers(128, 100, 8), workers(128, 400, 8), workers(128, 1600, 8)], [8, 2, 1]);
    }

    #[test]
    fn more_workers_get_smaller_row_groups_and_none_vanishes() {
        assert_eq!(row_group_bytes(128, 1, 16 * MIB), 16 * MIB);
        assert_eq!(row_group_bytes(128, 4, 16 * MIB), 8 * MIB);
        assert_eq!(row_group_bytes(128, 1000, 16 * MIB), SMALLEST_ROW_GROUP);
    }
}
