# sinkforge_embed(<target> HEADER <header> NAMESPACE <name> FILES <variable>=<file>...): adds a source
# that defines `const std::string_view <variable>`, which <header> declares, with each file's text.
# The text is a raw string, which the compiler cache can see, unlike an .incbin.
function(sinkforge_embed target)
  cmake_parse_arguments(A "" "HEADER;NAMESPACE" "FILES" ${ARGN})
  set(source "// Files of ${target}, embedded by base/Embed.cmake.\n#include \"${A_HEADER}\"\nnamespace ${A_NAMESPACE} {\n")
  foreach(entry IN LISTS A_FILES)
    string(REGEX MATCH "^([^=]+)=(.+)$" matched "${entry}")
    set(variable "${CMAKE_MATCH_1}")
    cmake_path(ABSOLUTE_PATH CMAKE_MATCH_2 BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" OUTPUT_VARIABLE path)
    file(READ "${path}" text)
    string(APPEND source "const std::string_view ${variable} = R\"embedded(${text})embedded\";\n")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${path}")
  endforeach()
  string(APPEND source "}  // namespace ${A_NAMESPACE}\n")
  set(output "${CMAKE_CURRENT_BINARY_DIR}/${target}_embedded.cc")
  file(CONFIGURE OUTPUT "${output}" CONTENT "${source}" @ONLY)
  target_sources(${target} PRIVATE "${output}")
endfunction()
