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

/// What one worker may hold of the budget of the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Arrow bytes of a batch on its way from the decoder to the encoder.
    pub batch_bytes: usize,
    /// Encoded bytes after which a row group is closed.
    pub row_group_bytes: usize,
}

const MIB: usize = 1 << 20;
/// Batches beyond this gain nothing, cost cache, and leave larger holes in the heap.
const LARGEST_BATCH: usize = 512 * 1024;
const SMALLEST_BATCH: usize = 256 * 1024;
const SMALLEST_ROW_GROUP: usize = MIB;
/// What a worker holds at the least: the smallest batch and row group, a receive pipe of four chunks, the sink's buffer, and
/// what codecs and allocators keep beside them. Measured.
const SMALLEST_SHARE_MB: usize = 5;

/// How many of the `wanted` workers the budget has room for. At least one.
pub fn workers(budget_mb: usize, wanted: usize) -> usize {
    wanted.min(budget_mb / SMALLEST_SHARE_MB).max(1)
}

/// Divides the budget. A worker's peak is about the batch, the row group in its encoder (encoded pages of all columns and
/// the dictionaries that are still open), and the file's write buffer; the receive buffers are bounded beside it. Half of
/// the share goes to the row group, which leaves the other half to what allocators and codecs hold beside it.
pub fn share(budget_mb: usize, workers: usize, row_group_bytes: usize) -> Share {
    let share = budget_mb * MIB / workers.max(1);
    Share {
        batch_bytes: (share / 16).clamp(SMALLEST_BATCH, LARGEST_BATCH),
        row_group_bytes: row_group_bytes.min((share / 4).max(SMALLEST_ROW_GROUP)),
    }
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
        assert_eq!([workers(128, 2), workers(128, 64), workers(16, 8), workers(1, 8)], [2, 25, 3, 1]);
    }

    #[test]
    fn more_workers_get_smaller_shares_and_no_share_vanishes() {
        let one = share(128, 1, 16 * MIB);
        let many = share(128, 64, 16 * MIB);
        assert_eq!(one, Share { batch_bytes: LARGEST_BATCH, row_group_bytes: 16 * MIB });
        assert_eq!(many, Share { batch_bytes: SMALLEST_BATCH, row_group_bytes: SMALLEST_ROW_GROUP });
    }
}
