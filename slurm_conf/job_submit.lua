-- job_submit.lua: the first, cheapest word of the policy, inside slurmctld.
--
-- It refuses at submission what could never be allowed, with a sentence that the user
-- can act on. It reads one small table, which `gpu-policy apply` writes:
--
--   /etc/slurm-gpu-policy/limits.lua
--     -- generation 7c1f...               (optional; see below)
--     return { accounts = { ["nlp-pretrain"] = { max_gpus_per_job = 16 } } }
--
-- One entry per account, sub-accounts written out, so that a look-up is one step.
-- Write the file beside and rename it: a half-written one is a broken one.
--
-- slurmctld waits for this script while it holds its locks. Hence: no database, no
-- network, no other file, no loop over jobs; a table with a `-- generation` line is
-- read anew only when that line changes. And no error here may cost a job: on a
-- broken table the last good one stays in force, before the first good one nothing is
-- limited, and slurmctld's log says so once.
--
-- What a job may use in the end is still decided by Slurm's own limits (sacctmgr):
-- the number of nodes of `-n 64 --gres=gpu:1` is not known here.
--
-- For Lua 5.1 (Debian's slurmctld) and later. slurmctld reloads the script by itself
-- when it changes.

-- Another place: GPU_POLICY_LIMITS in slurmctld's environment (its unit's Environment=).
local TABLE = os.getenv("GPU_POLICY_LIMITS") or "/etc/slurm-gpu-policy/limits.lua"
local MAX_BYTES = 4 * 1024 * 1024
local MAX_STEPS = 10 * 1000 * 1000      -- Lua instructions a table may take to load
local ESLURM_ACCOUNTING_POLICY = 2050   -- "Job violates accounting/QOS policy"

-- Slurm's "not set", in the widths that its fields have.
local UNSET = { [4294967294] = true, [4294967295] = true, [65534] = true, [65535] = true }

local function number(value)
   if type(value) == "number" and value > 0 and not UNSET[value] then return value end
   return nil
end

-- The GPUs in one request text, of any type: "gres:gpu:h100:2" (22.05),
-- "gres/gpu:h100:2" (23.11 and later), "gres/gpu:h100=2" (per task), "gpu", and lists.
local function gpus_in(text)
   local total = 0
   for item in string.gmatch(text or "", "[^,]+") do
      local name = item:gsub("^%s*gres[:/]", "")
      local count, suffix = name:match("^gpu[:=](%d+)([kK]?)$")
      if not count then count, suffix = name:match("^gpu:[^:=]+[:=](%d+)([kK]?)$") end
      if count then
         total = total + tonumber(count) * (suffix ~= "" and 1024 or 1)
      elseif name == "gpu" or name:match("^gpu:[^:=]+$") then
         total = total + 1              -- no count is one
      end
   end
   return total
end

-- The most GPUs that the request may hold at once. `get` looks a field up. With a
-- range of nodes (-N 1-4) it is the upper end: Slurm may give all of them.
local function gpus_of(get)
   local nodes = number(get("max_nodes")) or number(get("min_nodes")) or 1
   local per_node = number(get("ntasks_per_node"))
   local tasks = number(get("num_tasks")) or (per_node and per_node * nodes) or nodes
   local sockets = number(get("sockets_per_node")) or 1
   return math.max(
      gpus_in(get("tres_per_job")),
      gpus_in(get("tres_per_node")) * nodes,
      gpus_in(get("tres_per_task")) * tasks,
      gpus_in(get("tres_per_socket")) * sockets * nodes)
end

-- The table's text as a value, in an environment of its own: no os, no io.
local function evaluate(text)
   if text:byte(1) == 27 then error("it is compiled Lua, not text", 0) end
   local chunk, problem
   if setfenv then
      chunk, problem = loadstring(text, "=limits.lua")
      if chunk then setfenv(chunk, {}) end
   else
      chunk, problem = load(text, "=limits.lua", "t", {})
   end
   if not chunk then error(problem, 0) end
   debug.sethook(function() error("it takes too long to load", 0) end, "", MAX_STEPS)
   local ok, value = pcall(chunk)
   debug.sethook()
   if not ok then error(value, 0) end
   if type(value) ~= "table" or type(value.accounts or {}) ~= "table" then
      error("it does not return a table with accounts", 0)
   end
   return value
end

local seen, limits = nil, {}        -- the text (or generation) last looked at; the last good table

local function current_limits()
   local file = io.open(TABLE, "r")
   if not file then
      seen, limits = nil, {}          -- none written, or taken away: nothing is limited
      return limits
   end
   local first = file:read("*l") or ""
   local generation = first:match("^%-%- generation .+")
   if generation and generation == seen then
      file:close()
      return limits
   end
   file:seek("set")
   local text = file:read(MAX_BYTES) or ""
   file:close()
   if (generation or text) == seen then return limits end
   seen = generation or text           -- also when broken: say so once, not per job
   local ok, value = pcall(evaluate, text)
   if ok then
      limits = value
      slurm.log_info("gpu-policy: read %s", TABLE)
   else
      slurm.log_error("gpu-policy: %s is broken and was not taken over: %s", TABLE, tostring(value))
   end
   return limits
end

-- nil, or the sentence that says why not.
local function objection(get)
   local account = get("account") or get("default_account")
   local entry = account and (current_limits().accounts or {})[account]
   local limit = type(entry) == "table" and tonumber(entry.max_gpus_per_job)
   if not limit then return nil end
   local gpus = gpus_of(get)
   if gpus <= limit then return nil end
   return string.format("account %s may use at most %d GPUs in one job, this one asks for %d",
      account, limit, gpus)
end

local function decide(get)
   local ok, sentence = pcall(objection, get)
   if not ok then
      slurm.log_error("gpu-policy: job_submit.lua failed, the job passes: %s", tostring(sentence))
   elseif sentence then
      slurm.log_user("gpu-policy: %s", sentence)
      return ESLURM_ACCOUNTING_POLICY
   end
   return slurm.SUCCESS
end

function slurm_job_submit(job_desc, part_list, submit_uid)
   return decide(function(field) return job_desc[field] end)
end

-- A pending job may be changed by its owner: what it then asks for counts, read from
-- the change where it says something and from the job where not.
local ASKS = { "account", "tres_per_job", "tres_per_node", "tres_per_task", "tres_per_socket",
   "min_nodes", "max_nodes", "num_tasks", "ntasks_per_node", "sockets_per_node" }

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
   local changed = {}
   for _, field in ipairs(ASKS) do
      local value = job_desc[field]
      if type(value) == "string" or number(value) then changed[field] = value end
   end
   if next(changed) == nil then return slurm.SUCCESS end     -- a site factor, say: nearly all
   return decide(function(field)
      if changed[field] ~= nil then return changed[field] end
      return job_rec[field]
   end)
end

return slurm.SUCCESS
