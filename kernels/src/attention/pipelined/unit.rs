//! What pipelined attention asks of a unit beside the tile job: tile instructions of its own on AMX, plain code elsewhere.

use super::schedule::{self, Buffers, GROUP, Schedule, SumTile};
use crate::cpu::tile::{ATile, MatmulUnit};

/// A unit that can run a schedule.
pub(crate) trait PipelinedUnit: MatmulUnit {
    /// Runs all iterations of a schedule.
    fn run_schedule(self, schedule: &Schedule, buffers: Buffers<'_>) {
        #[cfg(target_arch = "x86_64")]
        if let Some(tiles) = self.amx()
            && let Some(vbmi) = tiles.vbmi()
        {
            return super::amx::run_schedule(vbmi, tiles, schedule, buffers);
        }
        schedule::run_schedule(schedule, buffers);
    }

    /// `sums += weights · values`, three tiles of values to one of weights: for columns of V that the schedule leaves out.
    fn add_values(self, weights: &[ATile], values: &[ATile], sums: &mut [SumTile; GROUP]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(tiles) = self.amx() {
            return super::amx::add_values(tiles, weights, values, sums);
        }
        schedule::add_values(weights, values, sums);
    }
}

impl<U: MatmulUnit> PipelinedUnit for U {}
