# The quickstart in R: Rscript quickstart.R
url <- Sys.getenv("PULLBACK_URL", "http://127.0.0.1:8000")

# The answer of the server; an error of class "problem" where it refuses.
evaluate <- function(request) {
  # NA: as many digits as toJSON can write, which is 15 (its default: 4 decimals). Where the last bits of an input
  # matter, send them as list(shape = list(), dtype = "float64", base64 = jsonlite::base64_enc(writeBin(x, raw()))).
  body <- jsonlite::toJSON(request, auto_unbox = TRUE, digits = NA)
  handle <- curl::new_handle(postfields = body, timeout = 30)
  curl::handle_setheaders(handle, "Content-Type" = "application/json")
  response <- curl::curl_fetch_memory(paste0(url, "/v1/evaluate"), handle)
  answer <- jsonlite::fromJSON(rawToChar(response$content))
  if (response$status_code != 200) {
    message <- sprintf("%d %s: %s", answer$status, answer$type, answer$detail)
    stop(errorCondition(message, class = "problem", problem = answer))
  }
  answer
}

# 17 digits read back as the same double; print() alone shows 7.
show <- function(...) writeLines(paste(sprintf("%.17g", c(...)), collapse = " "))

# Value and gradient of one expression
a <- evaluate(list(expr = "square(exp(square(x)))", inputs = list(x = 0.5), backward = TRUE))
show(a$values$out, a$grads$x)

# The Matyas function: all partial derivatives come with one call
a <- evaluate(list(expr = "0.26*(x**2 + y**2) - 0.48*x*y", inputs = list(x = 1, y = 1), backward = TRUE))
show(a$values$out, a$grads$x, a$grads$y)

# Forward only: nothing is kept for a gradient
a <- evaluate(list(expr = "square(exp(square(x)))", inputs = list(x = 0.5), nograd = TRUE))
show(a$values$out)

# sin(1) and its first six derivatives
a <- evaluate(list(expr = "sin(x)", inputs = list(x = 1), backward = list(order = 6)))
show(a$values$out, a$higher$x)

# A mistake: the error says what was wrong, and what would be right
tryCatch(
  evaluate(list(expr = "sine(x)", inputs = list(x = 1))),
  problem = function(error) writeLines(conditionMessage(error))
)
