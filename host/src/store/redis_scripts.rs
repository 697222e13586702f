//! What Redis does in one step for a server that keeps state there, in its own language (state.md §4).

/// KEYS: revision, consoles, live, published. ARGV: owner, token, lease, lease of the name, blocks.
pub(super) const RENEW: &str = "
local lost = {}
for i = 5, #ARGV do
    local key = 'vspc:block:' .. ARGV[i]
    local owner = redis.call('GET', key)
    if not owner or owner == ARGV[1] then
        redis.call('SET', key, ARGV[1], 'PX', ARGV[3])
    else
        lost[#lost + 1] = tonumber(ARGV[i])
    end
end
for _, key in ipairs({KEYS[1], KEYS[2], KEYS[4]}) do redis.call('PEXPIRE', key, ARGV[3]) end
local live = redis.call('GET', KEYS[3])
if not live or live == ARGV[2] then
    redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[4])
    live = ''
end
return {redis.call('GET', KEYS[1]) or '', live, lost}";

/// Nothing where Redis has forgotten this server's last write: it may have forgotten whose blocks are, too.
/// KEYS: revision. ARGV: owner, lease, how many, the last write if that is known, blocks to choose from.
pub(super) const ACQUIRE: &str = "
if ARGV[4] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[4] then return false end
local got = {}
for i = 5, #ARGV do
    if #got >= tonumber(ARGV[3]) then break end
    local key = 'vspc:block:' .. ARGV[i]
    local owner = redis.call('GET', key)
    if not owner or owner == ARGV[1] then
        redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
        got[#got + 1] = tonumber(ARGV[i])
    end
end
return got";

/// Takes back what was published, unless another server has published something else since. KEYS: active,
/// hash, published. ARGV: name, port.
pub(super) const UNPUBLISH: &str = "
if redis.call('GET', KEYS[1]) == ARGV[2] then redis.call('DEL', KEYS[1]) end
if redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[2], ARGV[1]) end
redis.call('HDEL', KEYS[3], ARGV[1])";

/// KEYS: live. ARGV: token.
pub(super) const LEAVE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end";
