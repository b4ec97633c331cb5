-- job_submit.lua: the first, cheapest word of the policy, inside slurmctld.
--
-- It holds raw sbatch, srun and salloc to the rules that gpu-submit knows: refuses what
-- they forbid, completes what a request leaves out, and holds what must be approved. What
-- it says names the rule; docs/policy.md (L) tells how far it can see. All it knows is one
-- table, which `gpu-policy apply` writes (slurm_gpu_policy/policy/limits_table.py):
--
--   -- generation 7c1f...               (changes with the content)
--   return { level = "enforce", accounts = { ["nlp"] = { gpus_per_job = 16 } }, ... }
--
-- slurmctld waits for this script while it holds its locks. Hence: no database, no
-- network, no other file, no loop over jobs. At most once a second the table's first line
-- is looked at, and the rest is read only when that line has changed. An error in the
-- table never costs a job: the last good one stays in force, before the first good one
-- nothing is limited, and slurmctld's log says so once. An error in here costs a job only
-- where the site chose so (`on_failure: closed`).
--
-- For Lua 5.1 (Debian's slurmctld, 22.05 and 26.05) to 5.4. slurmctld reloads the script
-- by itself when it changes.

-- Another place: GPU_POLICY_LIMITS in slurmctld's environment (its unit's Environment=).
local TABLE = os.getenv("GPU_POLICY_LIMITS") or "/etc/slurm-gpu-policy/limits.lua"
local MAX_BYTES = 16 * 1024 * 1024
local MAX_STEPS = 20 * 1000 * 1000      -- Lua instructions a table may take to load
local REFUSED = 2050                    -- ESLURM_ACCOUNTING_POLICY, "Job violates accounting/QOS policy"
local NO_VAL, INFINITE = 4294967294, 4294967295
local UNSET = { [NO_VAL] = true, [INFINITE] = true, [65534] = true, [65535] = true }
local FORMS = { "tres_per_job", "tres_per_node", "tres_per_task", "tres_per_socket" }
local MANY = 2 ^ 40                     -- GPUs: more than any limit, and still good for "%d"
local UNITS = { [""] = 1, k = 2 ^ 10, m = 2 ^ 20, g = 2 ^ 30, t = 2 ^ 40, p = 2 ^ 50 }

local function number(value)            -- nil where Slurm says "not set"
   if type(value) == "number" and value > 0 and not UNSET[value] then return value end
   return nil
end

-- --- the table --------------------------------------------------------------------

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
   if type(value) ~= "table" then error("it does not return a table", 0) end
   for _, part in ipairs { "accounts", "users", "workloads", "partitions", "types", "prices",
      "everyone", "levels", "thresholds", "exempt", "left", "lines", "nodes" } do
      if type(value[part] or {}) ~= "table" then error(part .. " is not a table", 0) end
      value[part] = value[part] or {}
   end
   return value
end

-- A file as a value, looked at once a second and read when its first line has changed. The last
-- good one stays where it is broken or cannot be read; one that is not there (ENOENT) is nil.
local function reader(path, is_needed)
   local seen, looked, value = nil, nil, nil
   return function()                    -- the value, and whether it was read just now
      if os.time() == looked then return value end
      looked = os.time()
      local file, problem, code = io.open(path, "r")
      if not file then
         local there = code ~= 2
         if problem ~= seen and (there or is_needed) then
            slurm.log_error("gpu-policy: %s cannot be read%s: %s", path,
               there and " and stays in force as it was" or "", problem)
         end
         seen, value = (there or is_needed) and problem or nil, there and value or nil
         return value
      end
      local first = file:read("*l") or ""
      local generation = first:match("^%-%- generation .+")
      file:seek("set")
      local text = (not generation or generation ~= seen) and (file:read(MAX_BYTES) or "")
      file:close()
      if not text or (generation or text) == seen then return value end
      seen = generation or text         -- also when broken: say so once, not per job
      local ok, found = pcall(evaluate, text)
      if ok then
         value = found
         if not is_needed then slurm.log_info("gpu-policy: read %s", path) end
      else
         slurm.log_error("gpu-policy: %s is broken and was not taken over: %s", path, tostring(found))
      end
      return value, ok
   end
end

local read_limits, limits = reader(TABLE), nil
local read_budgets, budgets = {}, nil   -- what accounts have left: gpu-policyd writes it each tick
local taken = {}                        -- of that, by what was let through since
local names = {}                        -- of users, by uid: slurmctld may ask a directory for them

local function refresh()
   local fresh
   limits, fresh = read_limits()
   if fresh then names = {} end
   budgets, fresh = nil, nil
   local path = limits and limits.budgets
   if path then
      read_budgets[path] = read_budgets[path] or reader(path, true)
      budgets, fresh = read_budgets[path]()
   end
   if fresh then taken = {} end
   if budgets and os.time() > (tonumber(budgets.valid_until) or 0) and limits.on_failure ~= "closed" then
      budgets = nil
   end
end

-- --- what is asked for ------------------------------------------------------------

-- "4", "2k", and " +4", because Slurm's strtoull takes it; "-4" is nearly 2^64 to it. nil
-- for a type's name.
local function count_of(text)
   local sign, digits, unit = text:match("^%s*([+-]?)(%d+)([kKmMgGtTpP]?)$")
   if sign == "-" then return MANY end
   return digits and math.min(tonumber(digits) * UNITS[unit:lower()], MANY)
end

-- One item of a request text as type (nil: none named) and count; nothing where it is not
-- about GPUs: "gres:gpu:h100:2" (22.05), "gres/gpu:h100:2" (23.11 and later),
-- "gres/gpu:h100=2" (per task), "gpu", "gpu:2".
local function gpus_in(item)
   local rest = item:match("^%s*gres[:/](.*)$") or item
   if rest == "gpu" then return nil, 1 end
   local tail = rest:match("^gpu[:=](.+)$")
   if not tail then return nil, nil end
   if count_of(tail) then return nil, count_of(tail) end
   local kind, count = tail:match("^([^:=]+)[:=](.+)$")
   return kind or tail, not count and 1 or count_of(count) or MANY
end

-- GPUs of one request text: in all, and by type ("" for none). Slurm takes the largest of
-- those that name the same.
local function total(text)
   local kinds, sum = {}, 0
   for item in string.gmatch(text or "", "[^,]+") do
      local kind, count = gpus_in(item)
      if count and count > 0 then kinds[kind or ""] = math.max(kinds[kind or ""] or 0, count) end
   end
   for _, count in pairs(kinds) do sum = sum + count end
   return sum, kinds
end

-- What the table knows of the partitions a job may start in.
local function place_of(job)
   local place = { most = 0, exclusive = job.whole or job.get("shared") == 0 }
   for name in (job.get("partition") or limits.default_partition or ""):gmatch("[^,]+") do
      local known, live = limits.partitions[name] or {}, job.partitions[name]
      place.known, place.name = place.known or limits.partitions[name] ~= nil, place.name or name
      place.type = place.type or known.type
      place.most = math.max(place.most, known.most_gpus or 0)
      place.least = math.max(place.least or 0, known.least_gpus or 0)
      place.cpus = known.cpus and math.max(place.cpus or 0, known.cpus)
      if live then
         place.exclusive = place.exclusive or live.max_share == 0    -- OverSubscribe=EXCLUSIVE
         place.nodes = math.max(place.nodes or 0, number(live.total_nodes) or math.huge)
         place.longest = place.longest or number(live.max_time)
         place.minutes = place.minutes or number(live.default_time) or place.longest
      end
   end
   return place
end

-- Tasks of an array ("0-9:2,12%3"), and how many of them may run at once.
local function array_of(text)
   local ranges, at_once = (text or "0"):match("^([^%%]*)%%?(%d*)")
   local tasks = 0
   for range in ranges:gmatch("[^,]+") do
      local first, last, step = range:match("^%s*(%d+)%-?(%d*):?(%d*)")
      first = tonumber(first) or 0
      tasks = tasks + math.floor(((tonumber(last) or first) - first) / math.max(tonumber(step) or 1, 1)) + 1
   end
   return tasks, math.min(tasks, tonumber(at_once) or tasks)
end

-- Nodes that a list names: "gpu[01-04,07],cpu1".
local function nodes_in(text)
   local sum = 0
   text = (text or ""):gsub("%b[]", function(list) return "*" .. array_of(list:sub(2, -2)) end)
   for name in text:gmatch("[^,]+") do
      local nodes = 1
      for many in name:gmatch("%*(%d+)") do nodes = nodes * many end
      sum = sum + nodes
   end
   return sum
end

-- The GPUs the job may hold at once (of an array: one task; of -N 1-4 those of four nodes), by
-- type, on how many nodes, and whether squeue may show fewer until it starts.
local function asked_for(job, place)
   local get = job.get
   local tasks, per_node = number(get("num_tasks")), number(get("ntasks_per_node"))
   local nodes, more = number(get("min_nodes")) or 1, false
   if tasks and per_node then nodes = math.max(nodes, math.ceil(tasks / per_node)) end
   if place.cpus then nodes = math.max(nodes, math.ceil((number(get("min_cpus")) or 1) / place.cpus)) end
   local most_nodes = number(get("max_nodes"))
   if tasks and not most_nodes and math.floor((get("bitflags") or 0) / 256) % 2 == 1 then
      most_nodes = math.min(tasks, place.nodes or tasks)        -- --spread-job: SPREAD_JOB of slurm.h
   end
   more, nodes = (most_nodes or 0) > nodes, math.max(nodes, most_nodes or 0, nodes_in(get("req_nodes")))
   local times = { tres_per_job = 1, tres_per_node = nodes,
      tres_per_task = tasks or (per_node and per_node * nodes) or nodes,
      tres_per_socket = (number(get("sockets_per_node")) or 1) * nodes }
   local most, kinds = 0, {}
   for _, form in ipairs(FORMS) do
      local sum, found = total(get(form))
      most = math.max(most, sum * times[form])
      for kind, count in pairs(found) do
         kinds[kind] = math.max(kinds[kind] or 0, count * times[form])
      end
   end
   local per_gpu = number(get("ntasks_per_tres"))
   if most == 0 and per_gpu and tasks then       -- --ntasks-per-gpu alone: Slurm divides
      most = math.ceil(tasks / per_gpu)
      kinds[""] = most
   end
   if place.exclusive then                       -- its nodes with all their GPUs
      local whole = nodes * ((most > 0 and place.most) or place.least or 0)
      if whole > most then
         if place.type then kinds[place.type] = (kinds[place.type] or 0) + whole - most end
         most, more = whole, true
      end
   end
   return math.min(most, MANY), kinds, nodes, more and most > 0
end

-- A fact of the last mark `WRITER(key=value;...)` in a comment (model/tag.py).
local function marked(comment, writer, key)
   local last
   for mark in (comment or ""):gmatch(writer .. "%(([%w_.:=;-]*)%)") do last = mark end
   return last and (";" .. last):match(";" .. key .. "=([^;]*)")
end

-- --- what is said and done ----------------------------------------------------------

-- Under `enforce` it is done and the user told; `advise` tells, `observe` logs it only.
local function say(rule, sentence)
   local level = limits.levels[rule] or limits.level or "enforce"
   sentence = sentence:gsub("%c", "?")  -- names are the user's own words
   if level == "observe" then
      slurm.log_info("gpu-policy: would say %s: %s", rule, sentence)
   else
      slurm.log_user("gpu-policy: %s (rule %s)", sentence, rule)
   end
   return level == "enforce"
end

local function refuse(job, rule, sentence, ...)
   if say(rule, string.format(sentence, ...)) then job.refused = true end
end

local function change(job, rule, fields, sentence, ...)
   if not say(rule, string.format(sentence, ...)) then return false end
   for field, value in pairs(fields) do job.set(field, value) end
   return true
end

local function words(minutes)           -- as Slurm prints a time limit
   if minutes == math.huge then return "unlimited" end
   local days, rest = math.floor(minutes / 1440), minutes % 1440
   return string.format("%s%02d:%02d:00", days > 0 and days .. "-" or "", math.floor(rest / 60), rest % 60)
end

-- Rule L-206: the account is closed.
local function judge_account(job)
   if (limits.accounts[job.account] or {}).closed then
      refuse(job, "L-206", "account %s is closed: use another one of yours", job.account)
   end
end

-- Rules A-103, L-204: GPU types are known, and named.
local function judge_types(job, place)
   local names = table.concat(limits.type_names or {}, ", ")
   for kind in pairs(job.kinds) do
      if kind ~= "" and next(limits.types) and not limits.types[kind] then
         refuse(job, "A-103", "there is no GPU type %s here, only %s", kind, names)
      end
   end
   if not job.kinds[""] or (limits.untyped or "pass") == "pass" or not place.known then return end
   if limits.untyped == "refuse" or not place.type then
      return refuse(job, "L-204", "the request names no GPU type: write TYPE:COUNT, with one of %s", names)
   end
   local typed = {}
   for _, form in ipairs(FORMS) do      -- in the request's own words: Slurm refuses the other
      local text = job.said(form)       -- release's prefix when it comes from Lua
      local new = text and text:gsub("[^,]+", function(item)
         local kind, count = gpus_in(item)
         return count and not kind and item:gsub("gpu", "%0:" .. place.type, 1) or nil
      end)
      if new ~= text then typed[form] = new end
   end
   if not next(typed) then              -- --ntasks-per-gpu alone says it in no text
      typed.tres_per_job = string.format("%sgpu:%s:%d", limits.prefix or "gres/", place.type, job.kinds[""])
   end
   if change(job, "L-204", typed, "the request names no GPU type: it is taken as %s", place.type) then
      job.kinds[place.type], job.kinds[""] = (job.kinds[place.type] or 0) + job.kinds[""], nil
   end
end

-- Rules L-201 to L-203, R-305 and L-205: GPUs and time.
local function judge_size(job, place)
   local longest, at_once = math.huge, job.gpus * job.at_once
   local scopes = { { "user " .. job.user, limits.users[job.user] or limits.everyone },
      { "account " .. job.account, limits.accounts[job.account] or {} },
      { "workload class " .. job.workload, limits.workloads[job.workload] or {} } }
   for _, scope in ipairs(scopes) do
      local owner, limit = scope[1], scope[2]
      if limit.gpus_per_job and job.gpus > limit.gpus_per_job then
         refuse(job, "L-201", "a job of %s may have %d GPUs at most, not %d", owner, limit.gpus_per_job, job.gpus)
      elseif limit.gpus and at_once > limit.gpus then
         refuse(job, "L-202", "%s may hold %d GPUs at once, and this asks for %d", owner, limit.gpus, at_once)
      end
      longest = math.min(longest, limit.seconds or math.huge)
   end
   if job.no_time and limits.missing_time == "refuse" then
      refuse(job, "L-205", "the job has no time limit: say with --time how long it runs")
   elseif job.no_time and limits.missing_time == "complete" then
      local default = (limits.workloads[job.workload] or {}).default_seconds or limits.default_seconds
      local wanted = math.min(default and math.ceil(default / 60) or job.minutes,
         math.max(1, math.floor(longest / 60)), place.longest or math.huge)
      if wanted ~= job.minutes and
         change(job, "R-305", { time_limit = wanted }, "without --time it gets %s", words(wanted)) then
         job.minutes = wanted
      end
   end
   for _, scope in ipairs(scopes) do
      local limit = scope[2].seconds
      if limit and job.minutes * 60 > limit then
         refuse(job, "L-203", "a job of %s may run %s at most, not %s", scope[1],
            words(math.floor(limit / 60)), words(job.minutes))
      end
   end
end

-- The most that GPUs of these kinds can cost for so long: GPU-seconds, and micro-units at the
-- dearest price. What nothing is asked of costs nothing, however long it runs.
local function cost_of(job, gpus, kinds, minutes)
   local tasks = job.new and job.tasks or number(job.get("array_task_cnt")) or 1
   local rate = job.nodes * (budgets.nodes[job.partition] or 0)
   for kind, count in pairs(kinds) do rate = rate + count * (budgets.prices[kind:lower()] or 0) end
   return { gpu_seconds = gpus > 0 and gpus * minutes * 60 * tasks or 0,
      money = rate > 0 and math.max(math.ceil(rate * minutes / 60 * tasks) + tasks, (budgets.minimum or 0) * tasks) or 0 }
end

-- A fact for the controller, beside those that the job has from here already.
local function note(job, facts)
   local comment = job.get("admin_comment") or ""
   local more, joined = comment:gsub("(gpu%-policy%([^()]*)%)$", "%1;" .. facts .. ")")
   return joined > 0 and more or ((comment .. " gpu-policy(" .. facts .. ")"):gsub("^ ", ""))
end

-- Rules L-207, B-006, B-007: what the account and its user have left covers the job, less what
-- was let through since gpu-policyd wrote it down. In doubt its next tick lets the job go.
local function judge_budget(job)
   local qos, had, resized, short, spent = job.get("qos"), {}, job.resized and job.gpus > job.had_gpus, nil, nil
   if not budgets or (not resized and ((qos and qos == budgets.qos) or job.has_no_cover)) then return end
   local keys, need = { job.account .. " " .. job.user }, cost_of(job, job.gpus, job.kinds, job.minutes)
   if job.was_covered then had = cost_of(job, job.had_gpus, job.had_kinds, job.had_minutes) end
   for _, name in ipairs(budgets.lines[job.account] or {}) do keys[#keys + 1] = name end
   for _, key in ipairs(keys) do
      local level = budgets.left[key] or { amount = math.huge }
      local more = (need[level.unit] or 0) - (had[level.unit] or 0)
      local room = resized and -1 or level.amount - (taken[key] or 0)
      if more > 0 and budgets.left[key] and more > room and not spent then short, spent = key, level.spent end
   end
   local most = job.hidden and string.format(";most=%d", job.gpus) or ""  -- to be set aside till it starts
   if not short then
      for _, key in ipairs(job.new and not job.held and keys or {}) do
         local level = budgets.left[key]
         if level then taken[key] = (taken[key] or 0) + need[level.unit] end
         if level and job.hidden then job.hidden = job.set("admin_comment", note(job, most:sub(2))) end
      end
      return
   end
   local whose = (short:find(" ") and "user " .. job.user .. " in " or "") .. "account " .. short:match("^[^ ]*")
   local home = qos and qos:match("^[%w_.:-]+$") and ";money_home=" .. qos or ""
   local moved = budgets.qos and { qos = budgets.qos, admin_comment = note(job, "money=qos" .. home .. most) }
   if resized then
      refuse(job, "L-207", "%s has a budget: submit the job anew with so many GPUs", whose)
   elseif not job.new or (spent and job.gpus > 0 and not moved) then
      refuse(job, "L-207", "%s has %s", whose, spent and "spent its budget" or "too little left of its budget")
   elseif moved and (spent or budgets.way == "qos") then
      change(job, spent and "L-207" or "B-007", moved, "%s has %s its budget: the job goes to QOS %s", whose,
         spent and "spent" or "too little left of", budgets.qos)
   elseif budgets.way ~= "nothing" and not job.held and job.get("priority") ~= 0 then
      change(job, "B-006", { priority = 0, admin_comment = note(job, "money=hold" .. most) },
         "%s may have too little left of its budget: the job is held until that is known", whose)
   end
end

-- Rules V-901, V-906: above one of the site's thresholds somebody must approve, so the job
-- is held; and what was approved, or needed no approval, does not grow over it afterwards.
-- (One that still waits may: the controller voids the votes on the smaller one.)
local function judge_approval(job)
   local cost = 0
   for kind, count in pairs(job.kinds) do        -- without a price there is no cost to exceed
      local price = limits.prices[kind] or -math.huge
      if price ~= 0 then cost = cost + price * count * job.minutes / 60 * job.tasks end
   end
   local has = { gpus = job.gpus, seconds = job.minutes * 60, cost = cost,
      gpu_hours = job.gpus > 0 and job.gpus * job.minutes / 60 * job.tasks or 0 }
   local above = false
   for _, limit in ipairs(limits.thresholds) do
      local all = (not limit.accounts or limit.accounts[job.account])
         and (not limit.workloads or limit.workloads[job.workload])
      for name, value in pairs(has) do all = all and not (limit[name] and value <= limit[name]) end
      above = above or all
   end
   if not above then return end
   if job.new then
      local seconds = job.minutes == math.huge and 0 or job.minutes * 60
      -- most: Slurm may give it that many (-N 1-4, --exclusive), whatever squeue says till then
      local mark = string.format("approval=pending;size=%d:%d:%d;most=%d",
         job.gpus, seconds, job.tasks, job.gpus)
      job.held = change(job, "V-901", { priority = 0, admin_comment = note(job, mark) },
         "%d GPUs for %s need an approval: the job is held until then", job.gpus, words(job.minutes))
   elseif not job.waits and (job.gpus > job.had_gpus or job.minutes > job.had_minutes or job.said("account")) then
      refuse(job, "V-906", "%d GPUs for %s need an approval: submit that as a new job", job.gpus, words(job.minutes))
   end
end

-- --- Slurm's two entry points -------------------------------------------------------

local function minutes_of(limit, missing)
   return (limit == nil or limit == NO_VAL) and (missing or math.huge) or limit == INFINITE and math.huge or limit
end

-- What the record of a job says it asks for: "cpu=4,gres/gpu=2,gres/gpu:h100=2".
local function recorded(text)
   local gpus, kinds = tonumber(text:match("gres/gpu=(%d+)")) or 0, {}
   for kind, count in text:gmatch("gres/gpu:([^=,]+)=(%d+)") do kinds[kind] = tonumber(count) end
   if next(kinds) == nil and gpus > 0 then kinds[""] = gpus end
   return gpus, kinds
end

local function judge(job, asks_gpus)
   local comment, place = job.get("comment") or "", place_of(job)
   job.account = (job.get("account") or job.get("default_account") or ""):lower()
   if not names[job.uid] then names[job.uid] = job.get("user_name") or tostring(job.uid) end
   job.user = names[job.uid]
   job.workload = marked(comment, "gpu%-submit", "workload")
      or (" " .. comment):match("[^%w_]workload=([%w_.:-]+)") or limits.default_workload or ""
   job.partition, job.nodes = place.name, number(job.get("min_nodes")) or 1
   if not job.gpus then job.gpus, job.kinds, job.nodes, job.hidden = asked_for(job, place) end
   job.tasks, job.at_once = array_of(job.new and job.get("array_inx") or nil)
   if job.throttle then                 -- a change of ArrayTaskThrottle; 0 takes it away
      local tasks = number(job.get("array_task_cnt")) or 1
      job.at_once = job.throttle > 0 and math.min(job.throttle, tasks) or tasks
   end
   job.no_time = job.new and job.get("time_limit") == NO_VAL
   job.minutes = minutes_of(job.get("time_limit"), place.minutes)
   if job.new and next(limits.workloads) and job.workload ~= "" and not limits.workloads[job.workload] then
      refuse(job, "A-108", "there is no workload class %s", job.workload)
   end
   judge_account(job)
   if asks_gpus then judge_types(job, place) end
   judge_size(job, place)
   if not job.refused then judge_approval(job) end
   if not job.refused then judge_budget(job) end
end

-- Slurm's answer for `work`, which says with job.refused what it thinks.
local function answer(job, work)
   refresh()
   if not limits then return slurm.SUCCESS end
   local ok, problem = pcall(work, job)
   if ok then return job.refused and REFUSED or slurm.SUCCESS end
   slurm.log_error("gpu-policy: job_submit.lua failed (on_failure is %s): %s",
      tostring(limits.on_failure), tostring(problem))
   if limits.on_failure ~= "closed" then return slurm.SUCCESS end
   slurm.log_user("gpu-policy: the policy cannot be applied just now: try again later, or tell the operators")
   return REFUSED
end

local function may_all(uid) return uid == 0 or limits.exempt[uid] end

function slurm_job_submit(job_desc, part_list, submit_uid)
   local function get(field) return job_desc[field] end
   local job = { new = true, uid = job_desc.user_id, get = get, said = get, partitions = part_list,
      set = function(field, value) job_desc[field] = value end }
   return answer(job, function()
      if may_all(job.uid) then return end
      local mark = get("admin_comment")  -- an approval is not the user's to write
      if mark and not may_all(submit_uid) then job.set("admin_comment", (mark:gsub("gpu%-policy%b()", " "))) end
      judge(job, true)
   end)
end

local SIZES = { "tres_per_job", "tres_per_node", "tres_per_task", "tres_per_socket", "min_nodes",
   "max_nodes", "num_tasks", "ntasks_per_node", "sockets_per_node", "min_cpus", "req_nodes" }

-- What its owner changes in a job is judged by what it then asks for, read from the change
-- where that says something and from the job where not. Slurm lets a coordinator change the
-- size of others' jobs, and who is one and who an operator is not known here: of others'
-- changes, size is judged. Approvals are given with `gpu-policy approve`.
function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
   local function said(field)
      local value = job_desc[field]
      return (type(value) == "string" or value == INFINITE or number(value)) and value or nil
   end
   local job = { uid = job_rec.user_id, said = said, partitions = part_list,
      set = function(field, value) job_desc[field] = value end }
   function job.get(field)
      local value = said(field)
      if value == nil then value = job_rec[field] end
      if field == "num_tasks" and not number(value) and job_rec.tres_per_task then
         local each = total(job_rec.tres_per_task)  -- the record has no number of tasks
         return each > 0 and job.had_gpus / each or nil
      end
      return value
   end
   return answer(job, function()
      if may_all(modify_uid) then return end        -- the controller's site factors, above all
      local approval = marked(job_rec.admin_comment, "gpu%-policy", "approval")
      job.waits = approval and approval ~= "" and approval ~= "approved"
      local held = (marked(job_rec.admin_comment, "gpu%-policy", "money") or ""):match("^h[eo]ld$")
      job.has_no_cover = held and job_rec.priority == 0
      if (job_desc.priority or NO_VAL) ~= NO_VAL and job_desc.priority ~= 0 then    -- a release
         if job.waits then refuse(job, "V-902", "the job waits for an approval (%s)", approval) end
         if job.has_no_cover then refuse(job, "B-006", "the job is held until its budget covers it") end
      end
      local sizes, forms = false, false
      for _, field in ipairs(SIZES) do sizes = sizes or said(field) ~= nil end
      for _, form in ipairs(FORMS) do forms = forms or said(form) ~= nil end
      job.throttle = tonumber(said("array_inx"))
      local owners = modify_uid == job.uid and (said("time_limit") or said("account") or said("qos"))
      if not (sizes or job.throttle or owners) then return end
      local had, kinds = recorded(job_rec.tres_fmt_req_str or "")
      job.whole = had == 0 and tonumber(marked(job_rec.admin_comment, "gpu%-policy", "most") or "") or nil
      if job.whole then had, kinds[""] = job.whole, job.whole end               -- --exclusive
      job.had_gpus, job.had_kinds, job.had_minutes = had, kinds, minutes_of(job_rec.time_limit)
      if not sizes then job.gpus, job.kinds = had, kinds end
      -- More nodes, or tasks: neither squeue nor the controller sees more GPUs until it starts.
      job.resized = job.gpus == nil and not (forms and said("min_nodes") == nil)
      job.was_covered = not said("account") and job_rec.qos ~= (budgets or {}).qos
      judge(job, forms)
   end)
end

return slurm.SUCCESS
