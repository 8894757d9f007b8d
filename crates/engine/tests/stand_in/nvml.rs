//! A stand-in for NVIDIA's management library, for machines without a GPU: it exports the C functions that this room
//! calls, with the signatures of `nvml.h`, and answers from a text file called `answers` in its own folder.
//!
//! It is no part of any crate: the tests compile it with `rustc --crate-type cdylib` and copy it once a test, so that
//! each test's library has answers of its own. It needs `unsafe` because it is a C library; the product has none.
//!
//! A line is `key = value`: `library.count = 2`, `0.name = NVIDIA H100`, `0/1.uuid = MIG-x` (slice 1 of GPU 0). A
//! value `!N` answers with NVML's error N; what has no line is answered with "not supported".

use std::ffi::{CStr, OsStr, c_char, c_int, c_longlong, c_uint, c_ulonglong, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const OK: c_uint = 0;
const INVALID_ARGUMENT: c_uint = 2;
const NOT_SUPPORTED: c_uint = 3;
const NOT_FOUND: c_uint = 6;
const INSUFFICIENT_SIZE: c_uint = 7;
const UNKNOWN: c_uint = 999;

#[repr(C)]
struct DlInfo {
    file: *const c_char,
    base: *mut c_void,
    name: *const c_char,
    address: *mut c_void,
}

unsafe extern "C" {
    fn dladdr(address: *const c_void, info: *mut DlInfo) -> c_int;
}

/// What the file beside this library says.
fn answers() -> String {
    let mut info = DlInfo { file: c"".as_ptr(), base: 0 as _, name: 0 as _, address: 0 as _ };
    let file = unsafe {
        dladdr(nvmlInit_v2 as *const c_void, &mut info);
        CStr::from_ptr(info.file)
    };
    let file = Path::new(OsStr::from_bytes(file.to_bytes()));
    std::fs::read_to_string(file.with_file_name("answers")).unwrap_or_default()
}

type Handle = usize;

/// A handle is 100 for each GPU, counted from one, and 1 for each of its slices: never null.
fn whose(handle: Handle) -> String {
    match (handle / 100, handle % 100) {
        (gpu, 0) => (gpu - 1).to_string(),
        (gpu, slice) => format!("{}/{}", gpu - 1, slice - 1),
    }
}

fn ask(of: &str, key: &str) -> Result<String, c_uint> {
    let key = format!("{of}.{key}");
    let answers = answers();
    let mut lines = answers.lines().filter_map(|line| line.split_once('='));
    let (_, value) = lines.find(|(found, _)| found.trim() == key).ok_or(NOT_SUPPORTED)?;
    match value.trim().strip_prefix('!') {
        Some(code) => Err(code.parse().unwrap_or(UNKNOWN)),
        None => Ok(value.trim().to_owned()),
    }
}

fn number<T: std::str::FromStr>(of: &str, key: &str) -> Result<T, c_uint> {
    ask(of, key)?.parse().map_err(|_| UNKNOWN)
}

unsafe fn put<T>(at: *mut T, value: Result<T, c_uint>) -> c_uint {
    match value {
        Ok(value) => {
            unsafe { at.write(value) };
            OK
        }
        Err(code) => code,
    }
}

unsafe fn put_text(at: *mut c_char, length: c_uint, value: Result<String, c_uint>) -> c_uint {
    match value {
        Ok(text) if text.len() < length as usize => {
            unsafe {
                std::ptr::copy_nonoverlapping(text.as_ptr().cast(), at, text.len());
                at.add(text.len()).write(0);
            }
            OK
        }
        Ok(_) => INSUFFICIENT_SIZE,
        Err(code) => code,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_uint {
    match number("library", "init") {
        Ok(code) => code,
        Err(NOT_SUPPORTED) => OK,
        Err(code) => code,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> c_uint {
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(text: *mut c_char, length: c_uint) -> c_uint {
    unsafe { put_text(text, length, ask("library", "driver")) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> c_uint {
    unsafe { put(count, number("library", "count")) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Handle) -> c_uint {
    let count = number("library", "count").unwrap_or(0);
    let handle = match ask(&index.to_string(), "handle") {
        _ if index >= count => Err(INVALID_ARGUMENT),
        Err(code) if code != NOT_SUPPORTED => Err(code),
        _ => Ok((index as usize + 1) * 100),
    };
    unsafe { put(device, handle) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Handle) -> c_uint {
    let uuid = unsafe { CStr::from_ptr(uuid) }.to_string_lossy();
    let count: usize = number("library", "count").unwrap_or(0);
    let found = (0..count).find(|index| ask(&index.to_string(), "uuid").is_ok_and(|own| own == uuid));
    unsafe { put(device, found.map(|index| (index + 1) * 100).ok_or(NOT_FOUND)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMinorNumber(device: Handle, minor: *mut c_uint) -> c_uint {
    unsafe { put(minor, number(&whose(device), "minor")) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(device: Handle, text: *mut c_char, length: c_uint) -> c_uint {
    unsafe { put_text(text, length, ask(&whose(device), "uuid")) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(device: Handle, text: *mut c_char, length: c_uint) -> c_uint {
    unsafe { put_text(text, length, ask(&whose(device), "name")) }
}

#[repr(C)]
pub struct Memory {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// Drivers before 510 lack it: `--cfg old`.
#[cfg(not(old))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Handle, memory: *mut Memory) -> c_uint {
    let version = unsafe { (*memory).version };
    if version as usize != size_of::<Memory>() | 2 << 24 {
        return INVALID_ARGUMENT;
    }
    let total = number(&whose(device), "memory");
    unsafe { put(memory, total.map(|total| Memory { version, total, reserved: 0, free: total, used: 0 })) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(device: Handle, now: *mut c_uint, pending: *mut c_uint) -> c_uint {
    let mode = number(&whose(device), "mig");
    unsafe { put(pending, mode).max(put(now, mode)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: Handle, count: *mut c_uint) -> c_uint {
    unsafe { put(count, number(&whose(device), "slices_max")) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: Handle,
    index: c_uint,
    slice: *mut Handle,
) -> c_uint {
    let handle = device + index as usize + 1;
    unsafe { put(slice, ask(&whose(handle), "uuid").map(|_| handle).map_err(|_| NOT_FOUND)) }
}

/// `0.links = 110`: links 0 and 1 are up, link 2 is down, there are no others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkState(device: Handle, link: c_uint, active: *mut c_uint) -> c_uint {
    let links = ask(&whose(device), "links");
    let state = links.and_then(|links| links.bytes().nth(link as usize).ok_or(INVALID_ARGUMENT));
    unsafe { put(active, state.map(|state| u32::from(state == b'1'))) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetEccMode(device: Handle, now: *mut c_uint, pending: *mut c_uint) -> c_uint {
    let mode = number(&whose(device), "ecc");
    unsafe { put(pending, mode).max(put(now, mode)) }
}

/// Uncorrected errors (1) over the whole life (1): nothing else is asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: Handle,
    kind: c_uint,
    counter: c_uint,
    count: *mut c_ulonglong,
) -> c_uint {
    if (kind, counter) != (1, 1) {
        return INVALID_ARGUMENT;
    }
    unsafe { put(count, number(&whose(device), "ecc_uncorrected")) }
}

fn retired(device: Handle, cause: c_uint) -> Result<c_uint, c_uint> {
    let key = ["retired_single", "retired_double"].get(cause as usize).ok_or(INVALID_ARGUMENT)?;
    number(&whose(device), key)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetRetiredPages(
    device: Handle,
    cause: c_uint,
    count: *mut c_uint,
    addresses: *mut c_ulonglong,
) -> c_uint {
    unsafe { nvmlDeviceGetRetiredPages_v2(device, cause, count, addresses, std::ptr::null_mut()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetRetiredPages_v2(
    device: Handle,
    cause: c_uint,
    count: *mut c_uint,
    addresses: *mut c_ulonglong,
    timestamps: *mut c_ulonglong,
) -> c_uint {
    let pages = retired(device, cause);
    unsafe {
        let room = *count;
        let code = put(count, pages);
        let Ok(pages) = pages else { return code };
        if room < pages {
            return INSUFFICIENT_SIZE;
        }
        for page in 0..pages as usize {
            addresses.add(page).write(page as u64 * 4096);
            if !timestamps.is_null() {
                timestamps.add(page).write(0);
            }
        }
        OK
    }
}

#[repr(C)]
pub struct FieldValue {
    field: c_uint,
    scope: c_uint,
    timestamp: c_longlong,
    latency: c_longlong,
    kind: c_uint,
    code: c_uint,
    value: c_ulonglong,
}

/// Rows of memory that were swapped for spare ones: fields 143 to 145, as unsigned integers (kind 1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetFieldValues(device: Handle, count: c_int, values: *mut FieldValue) -> c_uint {
    for at in 0..count as usize {
        let value = unsafe { &mut *values.add(at) };
        let key = match value.field {
            143 => Ok("rows_uncorrected"),
            144 => Ok("rows_pending"),
            145 => Ok("rows_failed"),
            _ => Err(NOT_SUPPORTED),
        };
        value.kind = 1;
        let answer = key.and_then(|key| number::<c_uint>(&whose(device), key).map(c_ulonglong::from));
        value.code = unsafe { put(&mut value.value, answer) };
    }
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEnergyConsumption(device: Handle, mj: *mut c_ulonglong) -> c_uint {
    // A driver that has let the GPU go wakes it up first.
    std::thread::sleep(std::time::Duration::from_millis(number("library", "slow_ms").unwrap_or(0)));
    unsafe { put(mj, number(&whose(device), "energy")) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetEnforcedPowerLimit(device: Handle, mw: *mut c_uint) -> c_uint {
    unsafe { put(mw, number(&whose(device), "power_limit")) }
}
