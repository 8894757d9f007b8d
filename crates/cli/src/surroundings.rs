//! What a verb finds around itself: terminal, input, clock, chance and a folder to remember things in.

use std::{
    io::{BufRead, IsTerminal},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use gregal_core::world::{RealWorld, World};

use crate::printer::Printer;

/// Everything from outside that a verb touches, apart from the cloud itself.
pub struct Surroundings {
    /// Where words and data go.
    pub printer: Printer,
    /// Where typed text comes from.
    pub input: Box<dyn BufRead + Send>,
    /// Whether a person types it.
    pub input_is_terminal: bool,
    /// Folder for what is remembered between calls (the audit log's key and checkpoint); none: nothing is.
    pub state_dir: Option<PathBuf>,
    /// Clock and chance.
    pub world: Arc<dyn World>,
    /// Pause between two looks at something that changes.
    pub poll: Duration,
    /// Longest that something is looked at which should change soon.
    pub patience: Duration,
}

impl Surroundings {
    /// The surroundings of this process.
    pub fn of_process() -> Self {
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
        Self {
            printer: Printer::of_process(),
            input: Box::new(std::io::BufReader::new(std::io::stdin())),
            input_is_terminal: std::io::stdin().is_terminal(),
            state_dir: state.map(|state| state.join("gregal")),
            world: Arc::new(RealWorld),
            poll: Duration::from_millis(500),
            patience: Duration::from_mins(10),
        }
    }
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}
