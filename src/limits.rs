//! Every bound that the engines hold, with its unit and its reason.

/// What one fetch may ask for.
#[derive(Debug, Clone)]
pub struct FetchLimits {
    /// Bytes of one request after inflation. A stateless round repeats all earlier haves; git sends at most some
    /// tens of thousands of them at 50 bytes.
    pub request_bytes_max: usize,
    /// Wants in one request; a mirror of a repository with a million refs stays below.
    pub wants_count_max: usize,
    /// Haves in one request.
    pub haves_count_max: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        FetchLimits {
            request_bytes_max: 64 << 20,
            wants_count_max: 1 << 20,
            haves_count_max: 1 << 18,
        }
    }
}

/// How often the REST interface may be asked.
#[derive(Debug, Clone)]
pub struct RestLimits {
    /// Requests a minute that use one token. A client that lists everything by pages makes some hundred.
    pub token_per_minute: u32,
    /// Requests a minute from one address, behind which a whole company may be.
    pub address_per_minute: u32,
}

impl Default for RestLimits {
    fn default() -> Self {
        RestLimits {
            token_per_minute: 1200,
            address_per_minute: 6000,
        }
    }
}

/// What one push may bring.
#[derive(Debug, Clone)]
pub struct PushLimits {
    /// Bytes of the command list, before the pack. 10,000 refs with long names fit in 2 MiB.
    pub commands_bytes_max: usize,
    /// Commands in one push.
    pub commands_count_max: usize,
    /// Push options in one push. People type them.
    pub push_options_count_max: usize,
    /// Bytes of all push options of one push.
    pub push_options_bytes_max: usize,
    /// Bytes of the pack as sent.
    pub pack_bytes_max: u64,
    /// Bytes of one object after inflation.
    pub object_bytes_max: u64,
    /// Objects in the pack, bases that complete a thin pack included.
    pub objects_count_max: u32,
    /// Deltas from an object down to its whole base. git writes 50, and reads 4,095.
    pub delta_depth_max: u32,
    /// Bytes of all objects of the pack after inflation and delta application: what a delta bomb multiplies.
    pub inflated_bytes_max: u64,
    /// Bytes of the file system that a push must leave free.
    pub disk_reserve_bytes: u64,
    /// Threads that resolve deltas.
    pub threads: usize,
}

impl Default for PushLimits {
    fn default() -> Self {
        PushLimits {
            commands_bytes_max: 64 << 20,
            commands_count_max: 100_000,
            push_options_count_max: 256,
            push_options_bytes_max: 64 << 10,
            pack_bytes_max: 5 << 30,
            object_bytes_max: 1 << 30,
            objects_count_max: 20_000_000,
            delta_depth_max: 4095,
            inflated_bytes_max: 1 << 40,
            disk_reserve_bytes: 1 << 30,
            threads: 2,
        }
    }
}
