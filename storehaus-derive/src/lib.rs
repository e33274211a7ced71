//! storehaus-derive
