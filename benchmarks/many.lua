-- Requests of many clients: the file that is given has a path in each line, and behind a space the token that it is asked
-- with, if any. Each request is one of them at random, made before the first is sent.
dofile((debug.getinfo(1, "S").source:sub(2):gsub("many%.lua$", "wrk.lua")))

local requests = {}

function init(arguments)
    for line in io.lines(arguments[1]) do
        local path, token = line:match("^(%S+)%s?(%S*)$")
        wrk.headers["Authorization"] = token ~= "" and "Bearer " .. token or nil
        requests[#requests + 1] = wrk.format("GET", path)
    end
    math.randomseed(os.time())
end

function request()
    return requests[math.random(#requests)]
end
