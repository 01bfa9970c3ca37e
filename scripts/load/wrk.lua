-- The request that wrk sends, and its report; scripts/load/wrk.py sets the variables and reads the result.
-- The request is made once: wrk.init formats it after `init`, and sends the same bytes every time.

local threads = {}

local function read(path)
  local file = assert(io.open(path, "rb"))
  local content = file:read("*a")
  file:close()
  return content
end

function setup(thread)
  table.insert(threads, thread)
end

function init()
  wrk.method = "POST"
  wrk.body = read(os.getenv("LOADTEST_BODY"))
  for line in io.lines(os.getenv("LOADTEST_HEADERS")) do
    local name, value = line:match("^([^:]+): (.*)$")
    wrk.headers[name] = value
  end
  codes = {}
end

-- Only on request: with it wrk copies every answer into Lua.
if os.getenv("LOADTEST_CODES") == "1" then
  function response(status)
    codes[status] = (codes[status] or 0) + 1
  end
end

function done(summary, latency, requests)
  local file = assert(io.open(os.getenv("LOADTEST_RESULT"), "w"))
  file:write(string.format('{"requests": %d, "duration_us": %d',
    summary.requests, summary.duration))
  for _, kind in ipairs({"connect", "read", "write", "timeout", "status"}) do
    file:write(string.format(', "%s": %d', kind, summary.errors[kind]))
  end
  local points = {}
  for tenth = 0, 999 do
    table.insert(points, string.format("%d", latency:percentile(tenth / 10)))
  end
  table.insert(points, string.format("%d", latency.max))
  file:write(', "latency_us": [' .. table.concat(points, ",") .. "]")
  local sums = {}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("codes")) do
      sums[status] = (sums[status] or 0) + count
    end
  end
  local counts = {}
  for status, count in pairs(sums) do
    table.insert(counts, string.format('"%d": %d', status, count))
  end
  file:write(', "codes": {' .. table.concat(counts, ", ") .. "}}\n")
  file:close()
end
