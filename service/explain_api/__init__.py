"""What a caller sees of explanations: handles, bodies, server-sent events, and one decode for all who ask the same.

routes -> bodies -> subjects (handles, texts) -> sharing -> service.explaining
       <- stream (server-sent events) or one JSON answer
"""
