pub fn ready() {}
pub fn stopping() {}
