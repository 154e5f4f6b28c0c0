# The quickstart in Julia, with its standard library alone: julia quickstart.jl
using Downloads

const URL = get(ENV, "PULLBACK_URL", "http://127.0.0.1:8000")

struct Problem <: Exception
    status::Int
    type::String
    detail::String
end
Base.showerror(io::IO, p::Problem) = print(io, p.status, " ", p.type, ": ", p.detail)

# The text of the server's answer; throws Problem where it refuses.
function evaluate(request)
    output = IOBuffer()
    response = Downloads.request(URL * "/v1/evaluate"; method = "POST", input = IOBuffer(request), output,
        headers = ["Content-Type" => "application/json"], timeout = 30)
    answer = String(take!(output))
    response.status == 200 && return answer
    throw(Problem(response.status, text(answer, "type"), text(answer, "detail")))
end

# Julia comes without JSON, so the next two read these simple answers by pattern. Your own program would rather have
# `import Pkg; Pkg.add("JSON")` and `JSON.parse(answer)`.

# The numbers of one part, in order: "grads":{"x":1.0,"y":2.0} gives [1.0, 2.0].
function numbers(answer, part)
    found = match(Regex("\"$part\":\\{(.*?)\\}"), answer)
    found === nothing && error("no \"$part\" in $answer")
    [parse(Float64, m.match) for m in eachmatch(r"(?<=[:\[,])-?[0-9][0-9.eE+-]*", found[1])]
end

function text(answer, key)
    found = match(Regex("\"$key\":\"((?:[^\"\\\\]|\\\\.)*)\""), answer)
    found === nothing && error("no \"$key\" in $answer")
    unescape_string(found[1])
end

# Value and gradient of one expression
a = evaluate("""{"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}, "backward": true}""")
println(join([numbers(a, "values"); numbers(a, "grads")], " "))

# The Matyas function: all partial derivatives come with one call
a = evaluate("""{"expr": "0.26*(x**2 + y**2) - 0.48*x*y", "inputs": {"x": 1, "y": 1}, "backward": true}""")
println(join([numbers(a, "values"); numbers(a, "grads")], " "))

# Forward only: nothing is kept for a gradient
a = evaluate("""{"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}, "nograd": true}""")
println(join(numbers(a, "values"), " "))

# sin(1) and its first six derivatives
a = evaluate("""{"expr": "sin(x)", "inputs": {"x": 1}, "backward": {"order": 6}}""")
println(join([numbers(a, "values"); numbers(a, "higher")], " "))

# A mistake: the error says what was wrong, and what would be right
try
    evaluate("""{"expr": "sine(x)", "inputs": {"x": 1}}""")
catch mistake
    mistake isa Problem || rethrow()
    println(sprint(showerror, mistake))
end
