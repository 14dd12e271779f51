-- Requests with pauses, so that a server is asked at a rate that doesn't depend on how quick it is:
-- `wrk ... URL -- PAUSE [FILE TYPE FIRST]`, PAUSE in milliseconds on average. With the file of a manifest each request
-- puts it, with another number from FIRST on in the place of NUMBER.
dofile("wrk.lua")

local pause, made = 0, 0
local payload, headers

function init(arguments)
    pause = tonumber(arguments[1])
    if arguments[2] then
        local file = assert(io.open(arguments[2]))
        payload = file:read("*a")
        file:close()
        headers, made = {["Content-Type"] = arguments[3]}, tonumber(arguments[4])
    end
    math.randomseed(os.time())
end

function delay()
    return math.random(0, 2 * pause)
end

function request()
    if not payload then
        return wrk.format()
    end
    made = made + 1
    return wrk.format("PUT", nil, headers, (payload:gsub("NUMBER", made)))
end
